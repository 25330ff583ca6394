"""Honest answers of other kinds and texts, held back: no number of the detector was set by them."""

from collections.abc import Callable
from itertools import pairwise
from random import Random

WHO = "Anders Bianca Cosima Dmitri Elif Fiona Gustav Hamid Ines Jonas Kaya Luca Mira Nils".split()
PLACES = "Oslo Porto Quito Riga Sofia Turin Uppsala Vienna Warsaw Zagreb Lyon Ghent".split()


def triangular_matrix(chance: Random) -> str:
    size = chance.choice((5, 8, 12, 18))
    rows = (" ".join("1" if j <= i else "0" for j in range(size)) for i in range(size))
    return "\n".join(rows)


def padded_arrays(chance: Random) -> str:
    width = chance.choice((32, 64, 128))
    rows = []
    for name in chance.sample(WHO, 3):
        ids = [chance.randrange(100, 30000) for _ in range(chance.randrange(4, 20))]
        rows.append(f'"{name}": {ids + [0] * (width - len(ids))}')
    return "{" + ",\n ".join(rows) + "}"


def unknown_points(chance: Random) -> str:
    point = '{"type": "Feature", "geometry": {"type": "Point", "coordinates": [0.0, 0.0]}}'
    count = chance.randrange(4, 14)
    return '{"type": "FeatureCollection", "features": [\n' + ",\n".join([point] * count) + "\n]}"


def empty_grid(chance: Random) -> str:
    size = chance.choice((9, 12))
    line = "+---" * size + "+"
    row = "|   " * size + "|"
    return "\n".join([line, row] * min(size, 12)) + "\n" + line


def psalm(chance: Random) -> str:
    deeds = (
        "made the great lights",
        "laid out the earth",
        "led his people through the desert",
        "struck great kings",
        "gives food to all flesh",
        "remembered us when we were low",
    )
    return "\n".join(
        f"To him who {chance.choice(deeds)}, for his mercy endures for ever;"
        for _ in range(chance.randrange(10, 26))
    )


def bus_song(chance: Random) -> str:
    parts = [("wheels", "round and round"), ("wipers", "swish, swish, swish"),
             ("horn", "beep, beep, beep"), ("doors", "open and shut"), ("babies", "wah, wah, wah"),
             ("driver", "move on back")]  # fmt: skip
    return "\n\n".join(
        f"The {what} on the bus go {how},\n{how}, {how}.\nThe {what} on the bus go {how},\n"
        "all through the town."
        for what, how in chance.sample(parts, chance.randrange(3, 7))
    )


def empty_translations(chance: Random) -> str:
    keys = ("title", "subtitle", "save", "cancel", "delete", "confirm", "close", "search", "help")
    return "\n".join(
        f"{language}:\n" + "\n".join(f'  {key}: ""' for key in keys)
        for language in chance.sample(("de", "fr", "es", "it", "pl", "sv", "nl", "pt"), 6)
    )


def switches(chance: Random) -> str:
    names = ("EXPORT", "IMPORT", "SEARCH", "CACHE", "MAIL", "AUDIT", "REPORT", "SYNC")
    lines = [
        f"FEATURE_{chance.choice(names)}_{n}={chance.choices(('false', 'true'), (9, 1))[0]}"
        for n in range(chance.choice((15, 40, 80)))
    ]
    return "\n".join(lines)


def idle_instructions(chance: Random) -> str:
    start = chance.randrange(0x1000, 0x9000)
    return "\n".join(f"{start + n:#06x}: 90    nop" for n in range(chance.choice((16, 40, 90))))


def tool_path(chance: Random) -> str:
    lines = ["G21", "G90"]
    for n in range(chance.choice((10, 25, 50))):
        lines.append(f"G1 X{n * 2}.000 Y{0 if n % 2 else 40}.000 F1200")
    return "\n".join([*lines, "M2"])


def melody(chance: Random) -> str:
    bar = chance.choice(("C C G G | A A G2 |", "E D C D | E E E2 |", "z4 | z4 |"))
    return "X:1\nT:Study\nM:4/4\nK:C\n" + "\n".join([bar] * chance.randrange(8, 32))


def poly_a(chance: Random) -> str:
    body = "".join(chance.choices("ACGU", k=chance.choice((120, 400))))
    return f">mRNA\n{body}{'A' * chance.choice((60, 150, 250))}"


def music_subtitles(chance: Random) -> str:
    return "\n\n".join(
        f"{n}\n00:{n // 20:02}:{n * 3 % 60:02},000 --> 00:{n // 20:02}:{(n * 3 + 2) % 60:02},500\n"
        + chance.choices(("[Music]", "Come on, we have to go."), (4, 1))[0]
        for n in range(1, chance.choice((12, 30, 50)))
    )


def yes_and_ok(chance: Random) -> str:
    return "\n".join(
        f"Agent: Is the lamp on port {n} green?\nCaller: Yes, it is.\nAgent: Good."
        for n in range(1, chance.choice((6, 16, 40)))
    )


def survey(chance: Random) -> str:
    answers = ("3 - neither agree nor disagree", "4 - agree")
    return "\n".join(
        f"Q{n}: {chance.choices(answers, (7, 1))[0]}" for n in range(1, chance.choice((15, 40, 70)))
    )


def medicine(chance: Random) -> str:
    days = chance.choice((7, 14, 28))
    return "\n".join(
        f"Day {day}\n  08:00 one tablet with water\n  14:00 one tablet with water\n"
        "  20:00 one tablet with water"
        for day in range(1, days + 1)
    )


def recurring_decimals(chance: Random) -> str:
    lines = []
    for denominator in chance.sample((3, 6, 7, 9, 11, 13, 27, 37), 4):
        digits = chance.choice((60, 150, 300))
        lines.append(f"1/{denominator} = 0.{10**digits // denominator:0{digits}}...")
    return "\n".join(lines)


def pascal(chance: Random) -> str:
    row, rows = [1], []
    for _ in range(chance.choice((8, 12, 16))):
        rows.append(" ".join(map(str, row)))
        row = [1, *(a + b for a, b in pairwise(row)), 1]
    return "\n".join(rows)


def roman_numbers(chance: Random) -> str:
    signs = ((100, "C"), (90, "XC"), (50, "L"), (40, "XL"), (10, "X"), (9, "IX"), (5, "V"),
             (4, "IV"), (1, "I"))  # fmt: skip
    lines = []
    for number in range(1, chance.choice((20, 50, 100))):
        rest, text = number, ""
        for value, sign in signs:
            text += sign * (rest // value)
            rest %= value
        lines.append(f"{number} = {text}")
    return "\n".join(lines)


def components(chance: Random) -> str:
    return "\n".join(
        f'<Card key="{n}" title="" image={{null}} onClick={{() => {{}}}} disabled={{false}} />'
        for n in range(chance.choice((8, 20, 50)))
    )


def nulls_for_columns(chance: Random) -> str:
    row = "SELECT " + ", ".join(["NULL"] * chance.choice((6, 10)))
    return "\nUNION ALL\n".join([row] * chance.randrange(4, 14)) + ";"


def ruled_table(chance: Random) -> str:
    columns = chance.choice((4, 6))
    rows = [" & ".join([place, *["--"] * columns]) + " \\\\ \\hline" for place in PLACES]
    return f"\\begin{{tabular}}{{l{'c' * columns}}}\n\\hline\n" + "\n".join(rows)


def signals(chance: Random) -> str:
    sign = chance.choice(("... --- ... ", "-- .- -.-- -.. .- -.-- ", "dit dit dit dah "))
    return sign * chance.randrange(6, 30)


def proof(chance: Random) -> str:
    count = chance.choice((6, 12, 24))
    return "\n".join(
        f"Suppose x = {n}. Then the left side is {n * n} and the right side is {n + 40}. "
        f"These are {'equal' if n * n == n + 40 else 'not equal'}, so x is "
        f"{'a' if n * n == n + 40 else 'no'} solution."
        for n in range(1, count)
    )


def tongue_twisters(chance: Random) -> str:
    line = chance.choice(("Red lorry, yellow lorry.", "She sells sea shells.", "Unique New York."))
    return "Say it quickly: " + " ".join([line] * chance.randrange(8, 45))


def invitations(chance: Random) -> str:
    return "\n\n".join(
        f"Dear {who},\nyou are invited to the summer party on the first of July at the old mill. "
        f"Please tell us by the end of May whether you come.\nBest wishes, the committee"
        for who in chance.sample(WHO, chance.randrange(4, 13))
    )


def flags(chance: Random) -> str:
    rows, sign, other = chance.randrange(6, 16), *chance.sample("🟥⬜🟦🟨🟩", 2)
    return "\n".join((sign if row % 2 else other) * 12 for row in range(rows))


def silence(chance: Random) -> str:
    samples = ", ".join(["128"] * chance.choice((60, 120, 200)))
    return f"const silence = new Uint8Array([{samples}]);"


KINDS: tuple[Callable[[Random], str], ...] = (
    triangular_matrix, padded_arrays, unknown_points, empty_grid, psalm, bus_song,
    empty_translations, switches, idle_instructions, tool_path, melody, poly_a, music_subtitles,
    yes_and_ok, survey, medicine, recurring_decimals, pascal, roman_numbers, components,
    nulls_for_columns, ruled_table, signals, proof, tongue_twisters, invitations, flags, silence,
)  # fmt: skip
