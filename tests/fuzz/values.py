"""Values that somebody may write after an equals sign, from the usual to the odd."""

USUAL = ["0", "1", "2", "3", "0.5", "1.5", "true", "false", "none", "'a'", "(1,)", "(0, 1)", "{}"]
NUMBERS = [
    *("-1", "-0.0", "1e-30", "1e30", "1e400", "-1e400", "nan", "inf", "2147483647", "2147483648"),
    *("4294967296", "1" + "0" * 40, "1" * 5000, "0x10", "1_000", "1.", "007", "1j", "1e5"),
]
LITERALS = [
    *("{[1]:2}", "{1: 2}", "{(1, 2): 3}", "{None: 1}", "{'a': {1: 2}}", "{1, 2}", "{{}}", "[[]]"),
    *("(1, 2.5, 'a')", "(1, True)", "(1, None)", "(0.1, 'x')", "[1, [2, [3]]]", "...", "b'bytes'"),
    *(
        "'",
        '"',
        "'''",
        "()",
        "(",
        "((1,",
        "lambda: 1",
        "__import__('os')",
        "f'{1}'",
        "1 if 1 else 2",
    ),
    *("\\", "'\\x00'", "'\\ud800'", "# a comment", "-", "+", "*", "not 1", "1 +", "\t", " ", ""),
]
TEXTS = [
    *("mlp", "digits", "train", "test[:10]", "é", "名前", "\U0001f600", "\ud800", "a\nb", "a\rb"),
    *("\0", "a\0b", "x" * 5000, "a:b", "a:b:c", ":", "::", "kd.models:mlp", "kd.models:", ":mlp"),
    *(
        "os:getcwd",
        "nowhere:net",
        "a.b.c",
        "..",
        "/",
        "a/b:c",
        "%s",
        "{0}",
        "$HOME",
        "`ls`",
        "[red]x",
    ),
]
LONG = [
    "(" * 100_000,
    "[" * 100_000,
    "-" * 100_000,
    "1+" * 50_000 + "1",
    "{1:" * 30_000,
    "9" * 99_999,
]
PATHS = [
    *(
        "~",
        "~/x",
        "~nobody/x",
        "~root",
        "gs://b/x",
        "s3://b/x",
        "a:b",
        "a:b/c",
        ":",
        "a\0b",
        "\0",
    ),
    *("", ".", "..", "/", "/dev/null", "/dev/full", "/proc/self/mem", "x" * 5000, "a/" * 2500, "é"),
    *("\ud800", "a\nb", "http://a/b", "file:///tmp", "x" * 255, "x" * 256, "-x", "--", "*", "a b"),
]
SOURCES = [
    *("run:", "run:nowhere", "run:~", "run:.", "run:/dev/null", "run:a\0b", "run:x?member=1"),
    *("table:", "table:nowhere.npz", "table:/dev/null", "table:.", "table:~", "table:" + "x" * 300),
    *("hf:gpt2", "weights:x", "store:x", "hf:", "npz:", "npz:a.npz", "npz:/dev/null", "csv:"),
    *("csv:nowhere.csv", "csv:/dev/null", "csv:x?weight=w", "csv:?", "folder:", "folder:."),
    *("folder:nowhere", "folder:/dev/null", "sequences", "sequences:0", "sequences:x", "shapes:8"),
    *("os:getcwd", "fuzz.teaches:answer", "fuzz.teaches:nothing", "fuzz.nowhere:f", "digits:x"),
]
ALL = [USUAL, NUMBERS, LITERALS, TEXTS, PATHS, LONG]
WEIGHTS = [0.3, 0.2, 0.2, 0.15, 0.12, 0.03]


def value(random):
    """Any of them."""
    pool = ALL[random.choice(len(ALL), p=WEIGHTS)]
    return pool[random.integers(len(pool))]


def choice(random, options):
    """One of `options`, whatever they are."""
    return options[int(random.integers(len(options)))]


def slip(random, word):
    """`word`, mistyped."""
    if not word:
        return "x"
    place = int(random.integers(len(word)))
    return choice(
        random,
        [
            word[:place] + word[place + 1 :],
            word[:place] + word[place] + word[place:],
            word[:place] + choice(random, "._=:-[]{} \0\n~é9") + word[place:],
            word.upper(),
            word[::-1],
        ],
    )
