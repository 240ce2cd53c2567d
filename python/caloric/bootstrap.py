"""The fast way in: `python -S …/caloric/bootstrap.py app.handler`. Compiled at every start, so kept to a few lines."""

# Children that multiprocessing spawns import this file too, under another name.
if __name__ == "__main__":
    import gc
    import sys

    sys.path[0] = sys.path[0].rpartition("/")[0]
    from caloric._rust import configure_search_path

    configure_search_path()
    thresholds = gc.get_threshold()
    # What is imported next is enough for a collection, which would find nothing.
    gc.set_threshold(100_000)
    from caloric.runtime import main

    main(sys.argv, thresholds)
