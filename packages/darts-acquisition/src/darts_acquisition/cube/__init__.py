"""A product of the size of the Arctic in a repository that fills as it is used.

`datacube` is the face. A cube holds a `product` on one large grid, of which `areas` says what an area needs; `layout`
says how it lies in Zarr arrays, and reads those fast. A `transaction` reads one state of it and makes the next one, in
the `repository`, which alone knows Icechunk's errors and locks. `ingest` fetches what is missing and reads what is
around a tile, `inspect` looks at a cube as a whole.
"""
