"""Tools that users put around their functions, unchanged, on both of our ways in and on awslambdaric.

What they need of the runtime: the names of awslambdaric, the context, standard output, logging.
"""
