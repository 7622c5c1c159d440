"""Which metrics are better when they are higher, by the field's names of them."""

from __future__ import annotations

HIGHER = {
    "acc", "accuracy", "accuracy_greedy", "acc_on_true_corners", "average_precision", "coverage",
    "exact_match", "iou", "map", "map_50", "map_75", "mean_iou", "picture_average_precision",
    "pictures_per_second", "precision", "quality", "recall", "recall_50", "recall_70", "recall_90",
    "val_acc",
}  # fmt: skip
LOWER = {
    "aurc", "brier", "character_error_rate", "character_error_rate_greedy", "corner_error",
    "corner_error_px", "ece", "excess_aurc", "false_per_empty_picture", "false_texts",
    "false_texts_greedy", "latency", "loss", "lost_by_localizer", "lost_by_reader", "median_ms",
    "p95_ms", "with_box", "with_text", "wrong",
}  # fmt: skip
_PARTS = {"share", "mean", "median", "p95", "low", "high"}
"""Names of parts of a metric, which has the name before."""


def direction(name: str) -> int:
    """1 where higher is better, -1 where lower is, 0 where neither.

    Args:
        name: with a dot for each level, such as ``shifted.at_threshold.wrong.share``.
    """
    levels = name.split(".")
    while (len(levels) > 1 and levels[-1] in _PARTS) or (
        levels[-1].endswith("_px") and len(levels) > 1
    ):
        if levels[-1] in HIGHER | LOWER:
            break
        levels.pop()
    return (levels[-1] in HIGHER) - (levels[-1] in LOWER)
