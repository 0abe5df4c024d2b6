"""The record of a run, as it stands in `record.json`: one type for each of its parts. Times are microseconds."""

from typing import Any, NotRequired, Required, TypedDict


class Product(TypedDict):
    """What was multiplied (suites.Case)."""

    suite: str
    kind: str
    shape: str  # for people
    weight: list[int]
    input: list[int]
    rows: int
    calls: int
    layer: str
    flops: int


class Told(TypedDict, total=False):
    """What is known of one way to do a product: a time, or why there is none."""

    us: float  # the median, between two quartiles
    low: float
    high: float
    calls: int
    how: str  # as in nmbench.kernels.timing
    error: float  # relative, against a product in higher precision
    copies: int  # of the operands, which took turns
    refused: str
    kind: str  # of the refusal


class Dense(Told):
    """A dense way."""

    way: str


class Sparse(Told, total=False):
    """A backend with one pattern and its own settings. Shares are of what the bytes or operations take at the least."""

    pattern: Required[str]
    backend: Required[str]
    compressed_bytes: Required[int]
    settings: dict[str, int]
    bytes: int  # that the backend holds
    ratio: float  # of the fastest dense time over this one
    share_bytes: float
    share_flops: float | None
    share_bound: float


class Choice(TypedDict):
    """What was the fastest for a pattern, dense being a choice; its ratio is of a second measurement."""

    pattern: str
    backend: str
    ratio: float
    measured_again: bool


class Cell(TypedDict):
    """One product with one dtype."""

    case: Product
    dtype: str
    dense: list[Dense]
    sparse: list[Sparse]
    chosen: list[Choice]
    dense_us: NotRequired[float]
    error: NotRequired[str]


class Mean(TypedDict):
    """Ratios of a dtype, kind, pattern and band of rows: their geometric mean, the least and the most of them."""

    dtype: str
    kind: str
    pattern: str
    rows: list[int | None]
    cases: int
    ratio: float
    least: float
    most: float
    chosen: float  # the mean with dense as a choice


class Target(TypedDict):
    """A figure that is wanted, and the one that was measured; None where no case was."""

    target: str
    wanted: float
    figure: float | None
    least: float | None
    cases: int
    met: bool | None


class Device(TypedDict):
    """What was measured on; the last two are a GPU's."""

    type: str
    name: str
    capability: list[int] | None
    memory: int | None


class Record(TypedDict):
    """A run."""

    schema_version: int
    kind: str  # "kernels"
    device: Device
    environment: dict[str, Any]  # nmbench._util.machine
    date: str
    options: dict[str, Any]  # Options.to_dict
    suites: dict[str, str]
    backends: list[str]
    unusable: dict[str, str]  # why
    planned: int
    seconds: NotRequired[float]
    notes: list[str]
    roofline: NotRequired[dict[str, Any] | None]  # roofline.Roofline
    cells: list[Cell]
    summary: NotRequired[list[Mean]]
    targets: NotRequired[list[Target]]
