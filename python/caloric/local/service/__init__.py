"""The Lambda service without its wire: functions, versions, aliases, layers and their configuration.

Each operation of the API is a plain function in the module of its subject: `create_function(service, request)` in
`functions`. `request` holds the members of botocore's input shape by their names, already validated against it; what is
returned are those of the output shape. What goes wrong is a `ServiceError`. Nothing here knows HTTP, and nothing here
starts a process: `caloric.local.http` and `caloric.local.environments` do.
"""
