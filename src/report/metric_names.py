"""Whether a higher or a lower value is better, by the name of the metric."""

from __future__ import annotations

HIGHER = {
    "acc", "accuracy", "accuracy_greedy", "acc_on_true_corners", "average_precision", "coverage",
    "exact_match", "iou", "map", "map_50", "map_75", "mean_iou", "picture_average_precision",
    "images_per_second", "precision", "quality", "recall", "recall_50", "recall_70", "recall_90",
    "val_acc",
}  # fmt: skip
LOWER = {
    "aurc", "brier", "character_error_rate", "character_error_rate_greedy", "corner_error",
    "corner_error_px", "ece", "excess_aurc", "false_per_empty_picture", "false_texts",
    "false_texts_greedy", "latency", "loss", "lost_by_localizer", "lost_by_recognizer", "median_ms",
    "p95_ms", "with_box", "with_text", "wrong",
}  # fmt: skip
_PARTS = {"share", "mean", "median", "p95", "low", "high"}
"""Names of a metric's parts; the name of the metric itself is at the level above."""


def direction(name: str) -> int:
    """Return 1 if a higher value of a metric is better, -1 if a lower one is, and 0 if neither.

    Args:
        name: Name of the metric, with levels separated by dots, such as
            ``shifted.at_threshold.wrong.share``.
    """
    levels = name.split(".")
    while (len(levels) > 1 and levels[-1] in _PARTS) or (
        levels[-1].endswith("_px") and len(levels) > 1
    ):
        if levels[-1] in HIGHER | LOWER:
            break
        levels.pop()
    return (levels[-1] in HIGHER) - (levels[-1] in LOWER)
