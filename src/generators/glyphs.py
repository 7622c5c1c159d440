"""Parametric vector glyphs in the style of the narrow DIN-like sans serif of Swiss plates.

Each glyph is a short list of centre-line paths, swept with a pen of constant width. The proportions
were measured by hand on images of plates; no font outline is used.

Path language: a path is a string of points ``u,v``. A point written ``~u,v`` is the corner between
its two neighbours and is rounded off with a quarter of an ellipse. ``<`` before the first point or
``>`` after the last one extends that end until the glyph's box cuts it; any other end is cut square
to the stroke. A path that ends where it began is closed.

Points are in the skeleton's own frame: ``u`` runs from 0 (leftmost centre line) to 1 (rightmost),
``v`` from 0 (topmost centre line) to 1 (lowest). The box lies half a stroke outside that frame, so
a glyph keeps its height when its stroke changes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.geometry.polygon import orient

Rings = list[NDArray[np.float64]]

CHARACTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
FAMILIES: tuple[str, ...] = ("din", "narrow", "grotesk")
NOMINAL_STROKE = 0.132
# Within these ranges, no counter of any family closes and no join comes apart.
WIDTH_RANGE = (0.8, 1.25)
STROKE_RANGE = (0.1, 0.16)
CORNER_RANGE = (0.0, 0.035)
LARGEST_WARP = 0.05
BULGE_RANGE = (-0.05, 0.1)

# Points per rounded corner: at a cap height of 400 px, the chord error is below 0.1 px.
CURVE_STEPS = 16
# Length of the handles that make a cubic Bezier curve follow a quarter ellipse.
ELLIPSE_HANDLE = 0.5523

# (width between the outer centre lines in cap heights, paths)
Skeleton = tuple[float, tuple[str, ...]]

_OVAL = "0,.42 ~0,0 .47,0 .53,0 ~1,0 1,.42 1,.58 ~1,1 .53,1 .47,1 ~0,1 0,.58 0,.42"
_STADIUM = "0,.22 ~0,0 .5,0 ~1,0 1,.22 1,.78 ~1,1 .5,1 ~0,1 0,.78 0,.22"
_DIN_S = (
    ".95,.19 ~.95,0 .5,0 ~.04,0 .04,.2 ~.04,.28 .25,.371"
    " .79,.606 ~1,.7 1,.795 ~1,1 .5,1 ~0,1 0,.775"
)

_DIN: dict[str, Skeleton] = {
    "A": (0.378, ("<.44,-.076 0,1.076>", "<.56,-.076 1,1.076>", ".12,.805 .88,.805")),
    "B": (
        0.378,
        (
            "0,.472 0,0 .7,0 ~1,0 1,.14 1,.38 ~1,.472 .79,.472 0,.472",
            "0,.472 .79,.472 ~1,.472 1,.564 1,.86 ~1,1 .7,1 0,1 0,.472",
        ),
    ),
    "C": (0.378, ("1,.22 ~1,0 .5,0 ~0,0 0,.22 0,.78 ~0,1 .5,1 ~1,1 1,.78",)),
    "D": (0.378, ("0,.5 0,0 .52,0 ~1,0 1,.21 1,.79 ~1,1 .52,1 0,1 0,.5",)),
    "E": (0.378, ("<1,0 0,0 0,1 1,1>", "0,.472 .82,.472")),
    "F": (0.378, ("<1,0 0,0 0,1>", "0,.472 .82,.472")),
    "G": (0.378, ("1,.22 ~1,0 .5,0 ~0,0 0,.22 0,.78 ~0,1 .5,1 ~1,1 1,.78 1,.555 .5,.555",)),
    "H": (0.378, ("<0,0 0,1>", "<1,0 1,1>", "0,.472 1,.472")),
    "I": (0.0, ("<.5,0 .5,1>",)),
    "J": (0.378, ("<1,0 1,.78 ~1,1 .5,1 ~0,1 0,.775",)),
    "K": (0.4, ("<0,0 0,1>", "<.97,-.076 0,.66", ".3,.42 1,1.076>")),
    "L": (0.378, ("<0,0 0,1 1,1>",)),
    "M": (0.5, ("<0,0 0,1>", "<1,0 1,1>", "<.02,-.076 .5,.72 .98,-.076>")),
    "N": (0.384, ("<0,0 0,1>", "<1,0 1,1>", "<.025,-.076 .975,1.076>")),
    "O": (0.378, (_STADIUM,)),
    "P": (0.378, ("<0,1 0,0 .7,0 ~1,0 1,.14 1,.4 ~1,.54 .7,.54 0,.54",)),
    "Q": (
        0.41,
        (
            "0,.22 ~0,0 .46,0 ~.92,0 .92,.22 .92,.78 ~.92,1 .46,1 ~0,1 0,.78 0,.22",
            ".57,.8 1.2,1.11",
        ),
    ),
    "R": (0.378, ("<0,1 0,0 .7,0 ~1,0 1,.14 1,.34 ~1,.472 .7,.472 0,.472", ".66,.44 1,1.076>")),
    "S": (0.378, (_DIN_S,)),
    "T": (0.378, ("<0,0 1,0>", "<.5,0 .5,1>")),
    "U": (0.378, ("<0,0 0,.78 ~0,1 .5,1 ~1,1 1,.78 1,0>",)),
    "V": (0.38, ("<0,-.076 .44,1.076>", "<1,-.076 .56,1.076>")),
    "W": (
        0.525,
        (
            "<0,-.076 .165,1.076>",
            "<1,-.076 .835,1.076>",
            ".492,.288 .215,1.076>",
            ".508,.288 .785,1.076>",
        ),
    ),
    "X": (0.4, ("<.03,-.076 .97,1.076>", "<.97,-.076 .03,1.076>")),
    "Y": (0.4, ("<.02,-.076 .5,.5 .98,-.076>", ".5,.46 .5,1>")),
    "Z": (0.378, ("<0,0 1.03,0 -.03,1 1,1>",)),
    "0": (0.357, (_OVAL,)),
    "1": (0.278, ("<.66,0 .66,1>", "-.08,.215 .62,.005")),
    "2": (
        0.353,
        ("0,.22 ~0,0 .5,0 ~1,0 1,.24 ~1,.345 .7,.51 .42,.664 ~.02,.87 0,1 1,1>",),
    ),
    "3": (
        0.353,
        (
            ".06,.115 ~.2,0 .47,0 ~.93,0 .93,.2 ~.93,.38 .42,.425 .28,.43",
            ".28,.43 .42,.435 ~.99,.49 .99,.72 ~.99,1 .45,1 ~.18,1 -.02,.885",
        ),
    ),
    "4": (0.353, ("<.58,-.076 -.06,.829 1,.829>", ".8,.523 .8,1>")),
    "5": (
        0.353,
        ("1.05,0 0,0 0,.485", ".01,.48 ~.2,.4 .47,.4 ~1,.4 1,.69 ~1,1 .5,1 ~.14,1 -.02,.85"),
    ),
    "6": (
        0.353,
        (
            "0,.72 ~0,.438 .5,.438 ~1,.438 1,.72 ~1,1 .5,1 ~0,1 0,.72",
            "0,.72 0,.62 ~0,.14 .95,-.01",
        ),
    ),
    "7": (0.353, ("<0,0 1.03,0 ~.44,.46 .41,1>",)),
    "8": (
        0.353,
        (
            ".07,.2 ~.07,0 .5,0 ~.93,0 .93,.2 ~.93,.42 .5,.42 ~.07,.42 .07,.2",
            "0,.72 ~0,.42 .5,.42 ~1,.42 1,.72 ~1,1 .5,1 ~0,1 0,.72",
        ),
    ),
    "9": (
        0.353,
        (
            "1,.28 ~1,.562 .5,.562 ~0,.562 0,.28 ~0,0 .5,0 ~1,0 1,.28",
            "1,.28 1,.38 ~1,.86 .05,1.01",
        ),
    ),
}

# A second supplier: narrower DIN shapes, one width for nearly all characters, softer corners.
_NARROW: dict[str, Skeleton] = {
    **{
        char: (0.0 if width == 0 else 0.325, paths)
        for char, (width, paths) in _DIN.items()
        if char not in "MW1"
    },
    "B": (
        0.325,
        (
            "0,.49 0,0 .5,0 ~.95,0 .95,.2 .95,.29 ~.95,.49 .5,.49 0,.49",
            "0,.49 .5,.49 ~1,.49 1,.7 1,.79 ~1,1 .5,1 0,1 0,.49",
        ),
    ),
    "D": (0.325, ("0,.5 0,0 .3,0 ~1,0 1,.3 1,.7 ~1,1 .3,1 0,1 0,.5",)),
    "G": (0.325, ("1,.25 ~1,0 .5,0 ~0,0 0,.22 0,.78 ~0,1 .5,1 ~1,1 1,.78 1,.53 .45,.53",)),
    "M": (0.43, ("<0,0 0,1>", "<1,0 1,1>", "<.02,-.076 .5,.62 .98,-.076>")),
    "P": (0.325, ("<0,1 0,0 .5,0 ~1,0 1,.22 1,.32 ~1,.54 .5,.54 0,.54",)),
    "R": (0.325, ("<0,1 0,0 .5,0 ~1,0 1,.21 1,.3 ~1,.51 .5,.51 0,.51", ".5,.49 1,1.076>")),
    "W": (
        0.45,
        (
            "<0,-.076 .19,1.076>",
            "<1,-.076 .81,1.076>",
            ".48,.16 .21,1.076>",
            ".52,.16 .79,1.076>",
        ),
    ),
    "0": (0.31, (_OVAL,)),
    "1": (0.25, ("<.68,0 .68,1>", "-.05,.26 .64,.0")),
    "4": (0.34, ("<.62,-.076 -.02,.78 1,.78>", ".8,.47 .8,1>")),
    "7": (0.325, ("<0,0 1,0 ~1,.14 .9,.26 .36,1.076>",)),
}

# Another design: wider bowls, squarer curves, crossbars at other heights, closed 4, hooked 6 and 9.
_GROTESK: dict[str, Skeleton] = {
    "A": (0.45, ("<.48,-.076 0,1.076>", "<.52,-.076 1,1.076>", ".15,.68 .85,.68")),
    "B": (
        0.4,
        (
            "0,.46 0,0 .55,0 ~.92,0 .92,.18 .92,.28 ~.92,.46 .55,.46 0,.46",
            "0,.46 .55,.46 ~1,.46 1,.66 1,.8 ~1,1 .55,1 0,1 0,.46",
        ),
    ),
    "C": (0.42, (".97,.3 ~.97,0 .52,0 ~0,0 0,.4 0,.6 ~0,1 .52,1 ~.97,1 .97,.7",)),
    "D": (0.42, ("0,.5 0,0 .4,0 ~1,0 1,.38 1,.62 ~1,1 .4,1 0,1 0,.5",)),
    "E": (0.34, ("<1,0 0,0 0,1 1,1>", "0,.49 1.05,.49")),
    "F": (0.33, ("<1,0 0,0 0,1>", "0,.52 1.0,.52")),
    "G": (
        0.43,
        (".96,.28 ~.96,0 .52,0 ~0,0 0,.4 0,.6 ~0,1 .5,1 ~1,1 1,.62 1,.53 .55,.53", "1,.5 1,1>"),
    ),
    "H": (0.42, ("<0,0 0,1>", "<1,0 1,1>", "0,.49 1,.49")),
    "I": (0.0, ("<.5,0 .5,1>",)),
    "J": (0.3, ("<1,0 1,.76 ~1,1 .48,1 ~0,1 0,.7",)),
    "K": (0.43, ("<0,0 0,1>", "<.94,-.076 0,.56", ".3,.38 1,1.076>")),
    "L": (0.32, ("<0,0 0,1 1,1>",)),
    "M": (0.54, ("<0,0 0,1>", "<1,0 1,1>", "<.03,-.076 .48,1.076>", "<.97,-.076 .52,1.076>")),
    "N": (0.43, ("<0,0 0,1>", "<1,0 1,1>", "<.03,-.076 .97,1.076>")),
    "O": (0.44, ("0,.38 ~0,0 .5,0 ~1,0 1,.38 1,.62 ~1,1 .5,1 ~0,1 0,.62 0,.38",)),
    "P": (0.39, ("<0,1 0,0 .55,0 ~1,0 1,.22 1,.36 ~1,.58 .55,.58 0,.58",)),
    "Q": (
        0.44,
        ("0,.38 ~0,0 .5,0 ~1,0 1,.38 1,.62 ~1,1 .5,1 ~0,1 0,.62 0,.38", ".62,.68 1.02,1.1>"),
    ),
    "R": (
        0.41,
        (
            "<0,1 0,0 .55,0 ~.95,0 .95,.2 .95,.32 ~.95,.52 .55,.52 0,.52",
            ".5,.52 ~.93,.52 .95,.72 .97,1.076>",
        ),
    ),
    "S": (
        0.4,
        (".95,.29 ~.95,0 .5,0 ~.03,0 .03,.24 ~.03,.43 .5,.48 ~1,.53 1,.745 ~1,1 .5,1 ~0,1 0,.7",),
    ),
    "T": (0.4, ("<0,0 1,0>", "<.5,0 .5,1>")),
    "U": (0.41, ("<0,0 0,.64 ~0,1 .5,1 ~1,1 1,.64 1,0>",)),
    "V": (0.45, ("<0,-.076 .48,1.076>", "<1,-.076 .52,1.076>")),
    "W": (
        0.68,
        (
            "<0,-.076 .23,1.076>",
            "<1,-.076 .77,1.076>",
            "<.49,-.076 .25,1.076>",
            "<.51,-.076 .75,1.076>",
        ),
    ),
    "X": (0.44, ("<.05,-.076 .95,1.076>", "<.95,-.076 .05,1.076>")),
    "Y": (0.45, ("<.03,-.076 .5,.58 .97,-.076>", ".5,.54 .5,1>")),
    "Z": (0.4, ("<0,0 .97,0 .03,1 1,1>",)),
    "0": (0.37, ("0,.5 ~0,0 .5,0 ~1,0 1,.5 ~1,1 .5,1 ~0,1 0,.5",)),
    "1": (0.2, ("<1,0 1,1>", "-.33,.16 ~.9,.16 1,-.06>")),
    "2": (0.38, ("0,.3 ~0,0 .5,0 ~1,0 1,.26 ~1,.44 .7,.6 ~.1,.92 0,1 1,1>",)),
    "3": (
        0.38,
        (
            ".02,.27 ~.02,0 .48,0 ~.93,0 .93,.23 ~.93,.46 .3,.46",
            ".3,.46 .45,.46 ~1,.46 1,.72 ~1,1 .48,1 ~0,1 0,.72",
        ),
    ),
    "4": (0.41, ("<.75,1 .75,0 0,.74 1,.74>",)),
    "5": (
        0.38,
        ("<.95,0 .1,0 .03,.5", ".03,.5 ~.2,.36 .5,.36 ~1,.36 1,.68 ~1,1 .48,1 ~0,1 0,.74"),
    ),
    "6": (
        0.38,
        (
            "0,.68 ~0,.37 .5,.37 ~1,.37 1,.68 ~1,1 .5,1 ~0,1 0,.68",
            "0,.68 0,.42 ~0,0 .52,0 ~.94,0 .95,.24",
        ),
    ),
    "7": (0.38, ("<0,0 1,0 ~.3,.42 .3,1.076>",)),
    "8": (
        0.38,
        (
            ".06,.23 ~.06,0 .5,0 ~.94,0 .94,.23 ~.94,.47 .5,.47 ~.06,.47 .06,.23",
            "0,.73 ~0,.47 .5,.47 ~1,.47 1,.73 ~1,1 .5,1 ~0,1 0,.73",
        ),
    ),
    "9": (
        0.38,
        (
            "1,.32 ~1,.63 .5,.63 ~0,.63 0,.32 ~0,0 .5,0 ~1,0 1,.32",
            "1,.32 1,.58 ~1,1 .48,1 ~.06,1 .05,.76",
        ),
    ),
}

# Alternate forms of single characters, usable with any family. They occasionally replace the family's
# own form, so that the recognizer learns what makes a 6, not what makes one supplier's 6.
_ALTERNATES: dict[str, tuple[Skeleton, ...]] = {
    "0": (
        (0.36, ("0,.33 ~0,0 .5,0 ~1,0 1,.33 1,.67 ~1,1 .5,1 ~0,1 0,.67 0,.33",)),
        (0.34, (_STADIUM,)),
    ),
    "1": (
        (0.24, ("<.8,0 .8,1>", "0,.3 .76,.01")),
        (0.16, ("<1,0 1,1>", "-.2,.1 1,.04")),
        (0.3, ("<.6,0 .6,1>", "-.05,.24 .56,.02", "<1.05,1 .1,1")),
    ),
    "2": (
        (0.36, ("0,.26 ~0,0 .5,0 ~1,0 1,.25 ~1,.4 .82,.55 0,1 1,1>",)),
        (0.36, ("0,.24 ~0,0 .48,0 ~.97,0 .97,.25 ~.97,.42 .6,.58 ~0,.84 0,1 1,1>",)),
    ),
    "3": (
        (0.36, ("<0,0 .95,0 .42,.4", ".42,.4 ~1,.42 1,.7 ~1,1 .48,1 ~.08,1 0,.86")),
        (
            0.36,
            (
                ".03,.22 ~.03,0 .48,0 ~.95,0 .95,.22 ~.95,.44 .42,.45",
                ".42,.45 ~1,.46 1,.72 ~1,1 .48,1 ~0,1 0,.78",
            ),
        ),
    ),
    "4": (
        (0.38, ("<.68,1 .68,0 -.02,.7 1,.7>",)),
        (0.38, ("<.6,-.076 0,.75 1,.75>", ".74,.42 .74,1")),
    ),
    "5": (
        (
            0.36,
            ("<.94,0 .07,0 .03,.48", ".03,.48 ~.2,.37 .5,.37 ~1,.37 1,.68 ~1,1 .48,1 ~.05,1 0,.8"),
        ),
        (0.36, ("<.96,0 0,0 0,.44", "0,.44 .45,.44 ~1,.44 1,.7 ~1,1 .45,1 ~.1,1 -.02,.9")),
    ),
    "6": (
        (
            0.36,
            (
                "0,.7 ~0,.41 .5,.41 ~1,.41 1,.7 ~1,1 .5,1 ~0,1 0,.7",
                "0,.7 0,.38 ~0,0 .54,0 ~.86,0 .95,.14",
            ),
        ),
        (
            0.36,
            (
                "0,.69 ~0,.4 .5,.4 ~1,.4 1,.69 ~1,1 .5,1 ~0,1 0,.69",
                "0,.69 0,.35 ~0,0 .5,0 ~.96,0 .96,.26",
            ),
        ),
        (
            0.36,
            ("0,.7 ~0,.43 .5,.43 ~1,.43 1,.7 ~1,1 .5,1 ~0,1 0,.7", "0,.7 ~0,.5 .26,.3 .72,-.03"),
        ),
    ),
    "7": (
        (0.36, ("<0,0 1,0 .32,1.076>",)),
        (0.36, ("<0,0 1,0 ~.55,.4 .46,1",)),
        (0.36, ("<0,0 1,0 1,.12 .4,1.076>",)),
    ),
    "8": (
        (
            0.36,
            (
                ".05,.23 ~.05,0 .5,0 ~.95,0 .95,.23 ~.95,.45 .5,.45 ~.05,.45 .05,.23",
                "0,.72 ~0,.45 .5,.45 ~1,.45 1,.72 ~1,1 .5,1 ~0,1 0,.72",
            ),
        ),
    ),
    "9": (
        (
            0.36,
            (
                "1,.3 ~1,.59 .5,.59 ~0,.59 0,.3 ~0,0 .5,0 ~1,0 1,.3",
                "1,.3 1,.62 ~1,1 .46,1 ~.14,1 .05,.86",
            ),
        ),
        (
            0.36,
            (
                "1,.31 ~1,.6 .5,.6 ~0,.6 0,.31 ~0,0 .5,0 ~1,0 1,.31",
                "1,.31 1,.65 ~1,1 .5,1 ~.04,1 .04,.74",
            ),
        ),
        (
            0.36,
            ("1,.3 ~1,.57 .5,.57 ~0,.57 0,.3 ~0,0 .5,0 ~1,0 1,.3", "1,.3 ~1,.5 .74,.7 .28,1.03"),
        ),
    ),
    "A": ((0.4, ("<.5,-.03 0,1.076>", "<.5,-.03 1,1.076>", ".14,.72 .86,.72")),),
    "E": ((0.34, ("<1,0 0,0 0,1 1,1>", "0,.5 .95,.5")),),
    "F": ((0.34, ("<1,0 0,0 0,1>", "0,.5 .92,.5")),),
    "G": (
        (0.4, ("1,.25 ~1,0 .5,0 ~0,0 0,.3 0,.7 ~0,1 .5,1 ~1,1 1,.7 1,.52 .5,.52",)),
        (
            0.4,
            (".97,.24 ~.97,0 .5,0 ~0,0 0,.36 0,.64 ~0,1 .5,1 ~1,1 1,.66 1,.5 .52,.5", "1,.55 1,1>"),
        ),
    ),
    "J": ((0.34, ("<.25,0 1,0 1,.76 ~1,1 .5,1 ~0,1 0,.76",)),),
    "L": ((0.33, ("<0,0 0,1 1,1>",)),),
    "N": ((0.41, ("<0,0 0,1>", "<1,0 1,1>", "<0,-.03 1,1.03>")),),
    "O": ((0.4, ("0,.32 ~0,0 .5,0 ~1,0 1,.32 1,.68 ~1,1 .5,1 ~0,1 0,.68 0,.32",)),),
    "R": (
        (0.39, ("<0,1 0,0 .6,0 ~.98,0 .98,.2 .98,.3 ~.98,.5 .6,.5 0,.5", ".56,.5 1,1.076>")),
        (
            0.39,
            (
                "<0,1 0,0 .6,0 ~.97,0 .97,.2 .97,.31 ~.97,.5 .6,.5 0,.5",
                ".5,.5 ~.95,.5 .97,.72 1,1.076>",
            ),
        ),
    ),
    "S": (
        (
            0.39,
            (
                ".95,.24 ~.95,0 .5,0 ~.02,0 .02,.22 ~.02,.41 .45,.47 ~1,.54 1,.77 ~1,1 .5,1 ~0,1 0,.74",
            ),
        ),
    ),
    "T": ((0.42, ("<0,0 1,0>", "<.5,0 .5,1>")),),
    "U": ((0.4, ("<0,0 0,.68 ~0,1 .5,1 ~1,1 1,.68 1,0>",)),),
    "V": ((0.42, ("<0,-.076 .47,1.076>", "<1,-.076 .53,1.076>")),),
    "W": (
        (
            0.58,
            (
                "<0,-.076 .22,1.076>",
                "<1,-.076 .78,1.076>",
                "<.48,-.03 .26,1.076>",
                "<.52,-.03 .74,1.076>",
            ),
        ),
    ),
    "Z": ((0.39, ("<0,0 .98,0 .02,1 1,1>",)),),
}

_TABLES: dict[str, dict[str, Skeleton]] = {"din": _DIN, "narrow": _NARROW, "grotesk": _GROTESK}
# The foot of the 1 is kept separate because suppliers make the 1 with and without it.
_FOOT_PATHS = {
    "din": "<1,1 .04,1",
    "narrow": "<1.05,1 .3,1",
}
# Joints fill up with ink, so glyphs with many joints are drawn with a lighter pen.
_WEIGHTS = {"V": 0.94, "W": 0.91, "N": 0.96, "M": 0.94, "A": 0.96, "0": 0.96, "4": 0.97, "7": 0.97}
# Longer handles make the curve bulge beyond the ellipse, towards a rounded square.
_HANDLES = {"din": ELLIPSE_HANDLE, "narrow": ELLIPSE_HANDLE, "grotesk": 0.62}


@dataclass(frozen=True)
class GlyphStyle:
    """Style in which one supplier draws the characters.

    Attributes:
        family: Glyph family, one of ``FAMILIES``.
        width: Horizontal scale of the skeleton, in ``WIDTH_RANGE``; the stroke is not scaled.
        stroke: Stroke width in cap heights, in ``STROKE_RANGE``.
        corner: Radius in cap heights by which pressing and inking round outer corners, in
            ``CORNER_RANGE``.
        foot: Whether the 1 stands on a foot; the grotesk 1 never does.
        alternates: Number of the alternate form of each character in ``CHARACTERS``; 0 or a missing
            entry selects the family's own form.
        waist: Downward shift of the middle of all characters in cap heights, at most
            ``LARGEST_WARP`` in magnitude.
        taper: Relative difference in width between the bottom and the top of all characters, positive
            if the bottom is wider, at most ``LARGEST_WARP`` in magnitude.
        bulge: How much squarer the curves are than the family's, in ``BULGE_RANGE``.

    Raises:
        ValueError: A value is outside its range; the message says what is allowed.
    """

    family: str = "din"
    width: float = 1.0
    stroke: float = NOMINAL_STROKE
    corner: float = 0.022
    foot: bool = True
    alternates: tuple[int, ...] = ()
    waist: float = 0.0
    taper: float = 0.0
    bulge: float = 0.0

    def __post_init__(self) -> None:
        if self.family not in FAMILIES:
            raise ValueError(f"family must be one of {', '.join(FAMILIES)}, not {self.family!r}")
        for name, allowed in (
            ("width", WIDTH_RANGE),
            ("stroke", STROKE_RANGE),
            ("corner", CORNER_RANGE),
            ("waist", (-LARGEST_WARP, LARGEST_WARP)),
            ("taper", (-LARGEST_WARP, LARGEST_WARP)),
            ("bulge", BULGE_RANGE),
        ):
            value = getattr(self, name)
            if not allowed[0] <= value <= allowed[1]:
                raise ValueError(f"{name} must be within {allowed[0]}..{allowed[1]}, not {value}")


def glyph_width(char: str, style: GlyphStyle) -> float:
    """Return the ink width of ``char`` in cap heights.

    Raises:
        ValueError: ``char`` is not in ``CHARACTERS``.
    """
    return float(max(ring[:, 0].max() for ring in _outline(char, style)))


def glyph_polygons(char: str, style: GlyphStyle) -> Rings:
    """Return the outline of ``char`` as rings, holes included, to be filled by the even-odd rule.

    Returns:
        Rings of shape ``(n, 2)`` with x, y in cap heights, y pointing down. The ink spans x from 0 to
        ``glyph_width`` and y from 0 to 1. Outer rings turn one way and holes the other.

    Raises:
        ValueError: ``char`` is not in ``CHARACTERS``.
    """
    return [ring.copy() for ring in _outline(char, style)]


def draw_glyph(char: str, style: GlyphStyle, height: float) -> NDArray[np.uint8]:
    """Draw the antialiased mask of ``char``.

    Args:
        char: One of ``CHARACTERS``.
        style: Style of the glyph.
        height: Cap height in pixels, at least 1; need not be an integer.

    Returns:
        Mask of shape ``(ceil(height) + 2, ceil(width * height) + 2)``, uint8: 0 is ground, 255 is ink,
        and values in between give the fraction of the pixel that the ink covers. The ink begins exactly
        1 px from the left and the top, so an integer ``height`` leaves exactly 1 px of padding below as
        well.

    Raises:
        ValueError: ``char`` is not in ``CHARACTERS``, or ``height`` is below 1 or not finite.
    """
    if not (math.isfinite(height) and height >= 1):
        raise ValueError(f"height must be a finite number of pixels, at least 1, not {height}")
    rings = _outline(char, style)
    # The tolerance prevents rounding noise from adding an empty column.
    columns = math.ceil(glyph_width(char, style) * height - 1e-6) + 2
    rows = math.ceil(height - 1e-6) + 2
    cover = polygon_coverage((rows, columns), rings, scale=height, offset=(1.0, 1.0))
    return np.rint(cover * 255).astype(np.uint8)


def polygon_coverage(
    shape: tuple[int, int],
    rings: Rings | tuple[NDArray[np.float64], ...],
    scale: float = 1.0,
    offset: tuple[float, float] = (0.0, 0.0),
) -> NDArray[np.float64]:
    """Compute the exact fraction of every pixel that lies inside the rings.

    Edges are cut at pixel borders. Each piece adds the signed area to its right within its pixel, and a
    running sum along the row propagates it (signed-area accumulation, as in scan-line font rasterisers).

    Args:
        shape: Rows and columns of the canvas; parts outside it are cut off.
        rings: Rings of x, y points, each of shape ``(n, 2)``. Outer rings and holes turn opposite ways
            and do not cross.
        scale: Pixels per unit of the points.
        offset: Position (x, y) of the points' origin in pixels, so that
            ``pixel = point * scale + offset``. Pixel (0, 0) covers 0 to 1 along both axes.

    Returns:
        Covered fractions in [0, 1], shape ``(rows, columns)``.
    """
    rows, columns = shape
    starts = np.concatenate([ring * scale + offset for ring in rings])
    ends = np.concatenate([np.roll(ring, -1, axis=0) * scale + offset for ring in rings])
    pieces = np.stack([starts, ends], axis=1)
    pieces = _split_at_whole(_split_at_whole(pieces, axis=1), axis=0)
    middle = pieces.mean(axis=1)
    rise = pieces[:, 1, 1] - pieces[:, 0, 1]
    row = np.floor(middle[:, 1]).astype(int)
    # Ink beside the canvas still fills the row to its right, so its column is clipped to the edge.
    across = np.clip(middle[:, 0], 0.0, columns)
    column = np.floor(across).astype(int)
    inside = (row >= 0) & (row < rows)
    flat = (row * (columns + 2) + column)[inside]
    right_share = (1.0 - (across - column))[inside] * rise[inside]
    total = np.zeros(rows * (columns + 2))
    total += np.bincount(flat, right_share, total.size)
    total += np.bincount(flat + 1, rise[inside] - right_share, total.size)
    cover = np.abs(np.cumsum(total.reshape(rows, columns + 2), axis=1)[:, :columns])
    return np.minimum(cover, 1.0)


def parse_path(path: str, handle: float = ELLIPSE_HANDLE) -> NDArray[np.float64]:
    """Parse a path in the module's path language and sample its rounded corners.

    Args:
        path: Path in the path language.
        handle: Length of the curve's handles as a fraction of the distance to the corner.

    Returns:
        Points of the path, shape ``(n, 2)``.

    Raises:
        ValueError: A corner lacks a plain point on either side.
    """
    tokens = path.strip("<>").split()
    points: list[NDArray[np.float64]] = []
    for index, token in enumerate(tokens):
        if not token.startswith("~"):
            points.append(_point(token)[None])
            continue
        if index in (0, len(tokens) - 1) or tokens[index + 1].startswith("~"):
            raise ValueError(f"a corner must stand between two plain points: {path!r}")
        start, corner, end = points[-1][-1], _point(token[1:]), _point(tokens[index + 1])
        first, second = start + handle * (corner - start), end + handle * (corner - end)
        # The outermost samples lie close to the ends, so that a square cut follows the curve's tangent.
        t = np.linspace(0.0, 1.0, CURVE_STEPS + 1)[:, None]
        t[0], t[-1] = 0.005, 0.995
        points.append(
            (1 - t) ** 3 * start
            + 3 * (1 - t) ** 2 * t * first
            + 3 * (1 - t) * t**2 * second
            + t**3 * end
        )
    return np.concatenate(points)


def polygon_rings(area: shapely.Geometry) -> Rings:
    """Return the ``(n, 2)`` rings of a polygon or multipolygon without the repeated last point."""
    rings: Rings = []
    for part in shapely.get_parts(area):
        if part.geom_type == "Polygon" and not part.is_empty:
            turned = orient(part)
            for ring in (turned.exterior, *turned.interiors):
                rings.append(np.asarray(ring.coords)[:-1])
    return rings


def _point(token: str) -> NDArray[np.float64]:
    across, down = token.split(",")
    return np.array([float(across), float(down)])


def _split_at_whole(pieces: NDArray[np.float64], axis: int) -> NDArray[np.float64]:
    """Cut ``(n, 2, 2)`` segments wherever their coordinate ``axis`` passes an integer."""
    low, high = pieces[:, :, axis].min(axis=1), pieces[:, :, axis].max(axis=1)
    first = np.floor(low) + 1
    cuts = np.maximum(np.ceil(high) - first, 0).astype(int)
    owner = np.repeat(np.arange(len(pieces)), cuts + 1)
    begin = np.cumsum(cuts + 1) - (cuts + 1)
    # Step k of a segment ends at its k-th cut, and the last step at the segment's end.
    step = np.arange(len(owner)) - begin[owner]
    length = np.where(high > low, high - low, 1.0)[owner]
    until = np.where(step < cuts[owner], (first[owner] + step - low[owner]) / length, 1.0)
    since = np.where(step > 0, (first[owner] + step - 1 - low[owner]) / length, 0.0)
    # The fractions above are measured from the low end, so start from whichever end is low.
    falls = pieces[owner, 0, axis] > pieces[owner, 1, axis]
    foot = np.where(falls[:, None], pieces[owner, 1], pieces[owner, 0])
    head = np.where(falls[:, None], pieces[owner, 0], pieces[owner, 1])
    near = foot + since[:, None] * (head - foot)
    far = foot + until[:, None] * (head - foot)
    return np.stack(
        [np.where(falls[:, None], far, near), np.where(falls[:, None], near, far)], axis=1
    )


@lru_cache(maxsize=4096)
def _outline(char: str, style: GlyphStyle) -> tuple[NDArray[np.float64], ...]:
    if len(char) != 1 or char not in CHARACTERS:
        raise ValueError(f"char must be one of {CHARACTERS}, not {char!r}")
    number = CHARACTERS.index(char)
    chosen = style.alternates[number] if number < len(style.alternates) else 0
    core, paths = (_TABLES[style.family][char], *_ALTERNATES.get(char, ()))[chosen]
    pen = style.stroke * _WEIGHTS.get(char, 1.0)
    half = pen / 2
    frame = np.array([core * style.width, 1.0 - pen])
    strokes = []
    if char == "1" and not chosen and style.foot and style.family in _FOOT_PATHS:
        paths = (*paths, _FOOT_PATHS[style.family])
    for path in paths:
        points = (
            _warped(parse_path(path, _HANDLES[style.family] + style.bulge), style) * frame + half
        )
        strokes.append(_sweep(points, path, pen))
    box = shapely.box(0.0, 0.0, frame[0] + pen, 1.0)
    ink = shapely.intersection(shapely.union_all(strokes), box)
    if style.corner > 0:
        # Not mitred: GEOS would lose a whole glyph where two strokes meet almost in a line.
        ink = ink.buffer(-style.corner, quad_segs=4).buffer(style.corner, quad_segs=4)
    # Square-cut ends may stop just short of the box: stretch to the cap height and begin at x = 0.
    left, top, _, bottom = ink.bounds
    stretch = (1.0, 1.0 / (bottom - top))
    return tuple((ring - (left, top)) * stretch for ring in polygon_rings(ink))


def _warped(points: NDArray[np.float64], style: GlyphStyle) -> NDArray[np.float64]:
    """Apply the style's waist and taper to the points of a skeleton without moving its frame."""
    across, down = points.T
    lower = style.waist * 4 * np.clip(down, 0, 1) * (1 - np.clip(down, 0, 1))
    wider = 1 + style.taper * (np.clip(down, 0, 1) - 0.5)
    # Narrower than the frame at one end but never wider, because the box would cut off the excess.
    across = 0.5 + (across - 0.5) * wider / (1 + abs(style.taper) / 2)
    return np.stack([across, down + lower], axis=1)


def alternate_counts() -> list[int]:
    """Return the number of alternate forms of each character in ``CHARACTERS``."""
    return [len(_ALTERNATES.get(char, ())) for char in CHARACTERS]


def _sweep(points: NDArray[np.float64], path: str, stroke: float) -> shapely.Geometry:
    if np.array_equal(points[0], points[-1]):
        return shapely.LinearRing(points).buffer(stroke / 2, join_style="mitre")
    points = points.copy()
    if path.startswith("<"):
        points[0] += _direction(points[1], points[0]) * stroke
    if path.endswith(">"):
        points[-1] += _direction(points[-2], points[-1]) * stroke
    return shapely.LineString(points).buffer(stroke / 2, cap_style="flat", join_style="mitre")


def _direction(start: NDArray[np.float64], end: NDArray[np.float64]) -> NDArray[np.float64]:
    return (end - start) / np.hypot(*(end - start))
