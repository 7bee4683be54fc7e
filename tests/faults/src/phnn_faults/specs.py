"""A layer that fails as it is told to. Loads no torch."""

from phnn.registry import Option, Spec

FAULTS = ("none", "raise", "raise_later", "exit", "kill", "segv", "hang", "allocate", "bad_alloc", "orphan")

LAYERS = [
    Spec(
        name="faulty",
        kind="layer",
        target="phnn_faults.layers:Faulty",
        twin="linear",
        algebras=(),
        shape={"batch": 2, "channels": 8, "out_channels": None, "fault": "none", "seconds": 0.0, "number": 1},
        options=(Option("fault", "none", "what it does in its first call", FAULTS),),
        arguments=lambda shape: {"channels": shape["channels"], "fault": shape["fault"], "seconds": shape["seconds"]},
        input_shape=lambda shape: (shape["batch"], shape["channels"]),
        constraints=lambda algebra, shape: None,
        info="sleeps for some seconds, and fails",
    )
]
