"""What all sources of scenes share: search, store, areas."""
