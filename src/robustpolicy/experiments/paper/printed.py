"""What the paper prints, as it prints it (digits included), in percent."""

from __future__ import annotations

#: lambda_1 and lambda_2 of Tables 1 and 2.
PENALTIES = (0.1, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5)

#: A row a lambda_1, which comes first; a column a lambda_2, in the order of PENALTIES.
_TABLE_1 = {
    "clean": """
        0.1   90.00  90.54  91.47  91.88  92.18  92.29  92.16
        0.25  90.03  90.82  91.44  91.95  92.19  92.29  92.41
        0.5   89.96  90.89  91.56  92.05  92.08  92.34  92.23
        0.75  89.68  90.62  91.37  92.03  92.08  92.16  92.12
        1     89.35  90.15  91.04  91.64  91.81  91.99  91.93
        1.25  88.93  89.72  90.41  91.46  91.81  91.64  91.93
        1.5   88.27  89.21  89.82  91.03  91.52  91.71  91.68
    """,
    "fgsm": """
        0.1  53.942  51.48  51.15  55.18  60.07  62.01  58.38
        0.25  55.77  53.81  51.95  55.06  61.58  61.83  53.65
        0.5   55.18  55.59  52.46  58.68  62.37  61.78  58.05
        0.75  55.14  57.41  55.96  54.29  64.64  64.87  57.05
        1     49.88  50.79  50.75  54.61  59.73  61.12  55.74
        1.25  28.31  35.15  38.93  44.70  46.16  42.26  41.10
        1.5   25.53  22.57  22.72   43.1  35.51  42.58  30.31
    """,
    "pgd": """
        0.1   37.46  31.68  23.38  28.11  36.58  46.50  43.84
        0.25  41.30  35.28  25.09  27.83  42.39  46.14  41.03
        0.5   41.51  37.15  24.44  33.39  42.16  46.08  44.57
        0.75  41.94   40.3  31.01  33.32  47.79   49.1  41.19
        1     34.15  31.95  24.11  27.10  41.51  45.05  41.02
        1.25   8.97  15.08   9.17  20.16  21.14  25.20  28.43
        1.5    6.40   4.78   1.99  11.39  14.95  20.07  17.19
    """,
}
_TABLE_2 = {
    "clean": """
        0.1   99.07   99.1  99.06  99.15  99.17  99.06  99.17
        0.25  99.12  99.11  99.09  99.13  99.12  99.18  99.15
        0.5   99.10  99.11  99.12  99.14  99.17  99.19  99.17
        0.75  99.02  99.15  99.05  99.11  99.13  99.16  99.21
        1     99.19  99.10  99.02  99.16  99.19  99.16  99.22
        1.25  99.14  99.14  99.16  99.20  99.12  99.14  99.14
        1.5   99.12  99.10  99.17  99.19  99.19   99.3  99.20
    """,
    "fgsm": """
        0.1   87.42  85.28   85.6  86.69  87.15  85.69  85.35
        0.25  86.35  86.23  83.66  84.95  86.17  85.30  84.68
        0.5   86.25  86.96  83.59  85.35  83.94  85.62  82.68
        0.75  87.86  82.83  85.67  84.32  83.02  84.11  86.40
        1     85.90   87.2   85.9  83.37  85.55  84.82  85.81
        1.25   85.6  86.01   84.7  84.32  85.94  85.37  81.78
        1.5   87.44  85.36  86.32  85.96  85.64  86.07  86.07
    """,
    "pgd": """
        0.1   64.30  61.14  60.13  59.31  60.85  62.16  56.82
        0.25  64.96  63.78  57.17  59.17  64.86  64.73  61.11
        0.5   62.93  67.34  59.54  63.06  58.00  64.47  56.18
        0.75  69.06  57.37   60.1  57.45  58.05   56.6  63.73
        1      59.5  64.15  60.52  58.39  61.13  59.02  62.05
        1.25  63.83  62.46  60.90  56.37  62.83  61.06  59.41
        1.5   64.67  60.47  59.94  62.92  59.47  59.67  60.20
    """,
}


def _grid(table: dict[str, str]) -> dict[tuple[float, float], dict[str, str]]:
    """(lambda_1, lambda_2) -> measure -> what is printed."""
    cells: dict[tuple[float, float], dict[str, str]] = {}
    for measure, text in table.items():
        for line in text.strip().splitlines():
            first, *values = line.split()
            for second, value in zip(PENALTIES, values, strict=True):
                cells.setdefault((float(first), second), {})[measure] = value
    return cells


TABLE_1 = _grid(_TABLE_1)
TABLE_2 = _grid(_TABLE_2)

#: (data set, method) -> measure -> what is printed.
TABLE_3 = {
    ("mnist", "ce"): {"clean": "99.19", "fgsm": "71.45", "pgd": "46.88"},
    ("mnist", "policy"): {"clean": "99.21", "fgsm": "86.40", "pgd": "63.73"},
    ("cifar10", "ce"): {"clean": "92.12", "fgsm": "4.51", "pgd": "0"},
    ("cifar10", "policy"): {"clean": "92.16", "fgsm": "64.87", "pgd": "49.1"},
}

TABLE_4 = {
    "ce-policy": {"clean": "92.21", "fgsm": "18.77", "pgd": "0"},
    "policy": {"clean": "92.16", "fgsm": "64.87", "pgd": "49.1"},
    "eq4": {"clean": "10.00", "fgsm": "-", "pgd": "-"},
}

#: (method, attack) -> clean, or one value an epsilon of .04, .12, .2.
TABLE_5 = {
    ("pc", "clean"): ("91.2",),
    ("pc", "fgsm"): ("53.1", "30.3", "18.7"),
    ("pc", "pgd"): ("27.6", "14.6", "7.5"),
    ("policy", "clean"): ("92.1",),
    ("policy", "fgsm"): ("64.8", "34.9", "21.64"),
    ("policy", "pgd"): ("43.8", "16.3", "6.4"),
}

#: lambda (None: the cross-entropy term stays) -> measure -> what is printed.
TABLE_6: dict[float | None, dict[str, str]] = {
    None: {"clean": "82.31", "pgd": "52.55", "autoattack": "48.25"},
    0.1: {"clean": "76.21", "pgd": "52.62", "autoattack": "48.83"},
    0.25: {"clean": "81.14", "pgd": "53.62", "autoattack": "49.10"},
    0.5: {"clean": "81.22", "pgd": "54.15", "autoattack": "49.46"},
    0.75: {"clean": "81.20", "pgd": "53.96", "autoattack": "49.11"},
    1.0: {"clean": "82.07", "pgd": "53.32", "autoattack": "48.37"},
    1.25: {"clean": "82.41", "pgd": "53.83", "autoattack": "48.39"},
    1.5: {"clean": "82.83", "pgd": "53.83", "autoattack": "48.14"},
}


def number(printed: str | None) -> float | None:
    """What is printed as a number; None where there is none."""
    return float(printed) if printed and printed != "-" else None
