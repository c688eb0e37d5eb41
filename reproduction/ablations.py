"""Variants of cells with one thing changed, to find out what it is worth."""

from reproduction.cells import CELLS, Cell

# cell -> name of the variant -> options of its training
VARIANTS: dict[str, dict[str, tuple[str, ...]]] = {
    "maml_omniglot_5w1s": {
        "cosine": ("--model.outer.schedule", "cosine"),
        "five_queries": ("--data.n_query", "5"),
        "five_steps": ("--model.inner_lr", "0.1", "--model.inner_steps", "5", "--model.eval_inner_steps", "5"),
        "first_order": ("--model.first_order", "true"),
        "no_rotations": ("--data.rotations", "none"),
        "flatten": ("--model.backbone.reduce", "flatten"),
        "pool": ("--model.backbone.downsample", "pool"),
    },
    "protonet_omniglot_5w1s": {
        "twenty_way": ("--data.n_way", "20", "--data.meta_batch_size", "3"),
        "fifteen_queries": ("--data.n_query", "15"),
        "constant": ("--model.outer.schedule", "constant"),
        "batch_statistics": ("--model.backbone.running_stats", "false"),
        "no_rotations": ("--data.rotations", "none"),
        "stride": ("--model.backbone.downsample", "stride"),
    },
}


def variants_of(cell: Cell) -> dict[str, Cell]:
    """The variants of a cell by their names, CELL-VARIANT."""
    found = {}
    for variant, options in VARIANTS.get(cell.name, {}).items():
        name = f"{cell.name}-{variant}"
        found[name] = Cell(name, cell.method, cell.config, cell.published, (*cell.options, *options), base=cell.name)
    return found


ABLATIONS = {name: variant for cell in CELLS.values() for name, variant in variants_of(cell).items()}
