"""A product of the size of the Arctic in a repository that fills as it is used.

`datacube` is the face. A cube holds a `product` on one large `grid`, of which `areas` says what an area needs; `layout`
says how it lies in Zarr arrays, and `shards` reads those fast. A `snapshot` reads one state of it, a `transaction`
makes the next one, both in the `repository` at a `location`, which alone knows Icechunk's errors and locks. `ingest`
fetches what is missing, `inspect` looks at a cube as a whole.
"""
