"""Records of cells whose metric and flips are planted, for the judges of claims."""

NOISE = (0.0, 0.1, -0.1)
SEEDS = range(3)


def sad(total=300, last=5, first=50, layers=(150, 150), first_last=20, **changes):
    """Flips of 100 weights in 9 steps, `first` in each step of the first third, `last` in each of the last."""
    return {
        **{"pattern": "2:4", "weights": 100, "total": total, "step": list(range(1, 10))},
        **{"flips": [first] * 3 + [20] * 3 + [last] * 3, "per_layer": dict(zip("ab", layers, strict=True))},
        "snapshots": {"steps": [0, 9], "consecutive": [first_last], "first_last": first_last},
        **changes,
    }


def add(results, method, mean=80.0, pattern="2:4", seeds=SEEDS, noise=NOISE, lambda_w=None, flips=None, **changes):
    """One cell a seed; `flips` are keywords of `sad`, whose totals differ a little from seed to seed."""
    cell = {**({"hyper": {"lambda_w": lambda_w}} if lambda_w is not None else {}), **changes.pop("cell", {})}
    for seed in seeds:
        if flips is not None:
            own = {key: value + seed if key in ("total", "first_last") else value for key, value in flips.items()}
            changes["sad"] = sad(**own)
        results.add(pattern, method, seed, value=mean + noise[seed], cell=cell, **changes)


def dense(results, mean=80.0, noise=(0.0, 0.0, 0.0), **changes):
    add(results, "dense", mean, "dense", noise=noise, **changes)


def outcomes(found):
    return [one.outcome for one in found]
