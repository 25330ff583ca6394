"""Honest answers that repeat themselves because their data does: matrices, tables, records."""

import json
import math
from random import Random

NAMES = (
    "Ada Boris Chen Dalia Emeka Farid Greta Hana Igor Jun Kofi Lena Mateo Noor Olga Pavel "
    "Quentin Rosa Sven Tariq Uma Viktor Wei Ximena Yusuf Zoe"
).split()


def identity_matrix(chance: Random) -> str:
    size = chance.choice((6, 8, 10, 12, 16, 20, 24, 32, 40))
    rows = [[int(i == j) for j in range(size)] for i in range(size)]
    match chance.randrange(4):
        case 0:
            return "[" + ",\n ".join(str(row) for row in rows) + "]"
        case 1:
            body = " \\\\\n".join(" & ".join(map(str, row)) for row in rows)
            return "\\begin{pmatrix}\n" + body + "\n\\end{pmatrix}"
        case 2:
            return "\n".join(" ".join(f"{value}." for value in row) for row in rows)
        case _:
            return json.dumps({"n": size, "identity": rows}, indent=1)


def zero_vector(chance: Random) -> str:
    size = chance.choice((64, 100, 128, 160, 200))
    zero = chance.choice(("0", "0.0", "0.00", "None", "false"))
    if zero in ("0.0", "0.00"):
        size //= 2
    return f"x = [{', '.join([zero] * size)}]"


def zero_matrix(chance: Random) -> str:
    width, height = chance.choice(((5, 5), (8, 8), (10, 10), (12, 12), (16, 12)))
    row = "[" + ", ".join(["0"] * width) + "]"
    return "[\n  " + ",\n  ".join([row] * height) + "\n]"


def equal_boxes(chance: Random) -> str:
    box = {"x": 0, "y": 0, "width": chance.choice((10, 64)), "height": 32, "label": "unknown"}
    count = chance.randrange(6, 16)
    if chance.random() < 0.5:
        return json.dumps({"boxes": [box] * count})
    return json.dumps({"boxes": [{"id": i, **box} for i in range(2 * count)]}, indent=2)


def empty_board(chance: Random) -> str:
    width, height = chance.choice(((8, 8), (9, 9), (10, 10), (15, 15), (19, 19)))
    cell = chance.choice((". ", "+ ", "| ", "⬜", "🟦", "~ "))
    letters = "ABCDEFGHJKLMNOPQRST"[:width]
    rows = [f"{height - y:2} {cell * width}".rstrip() for y in range(height)]
    return "   " + " ".join(letters) + "\n" + "\n".join(rows)


def played_boards(chance: Random) -> str:
    board = [[" "] * 3 for _ in range(3)]
    cells = [(x, y) for x in range(3) for y in range(3)]
    chance.shuffle(cells)
    pictures = []
    for number, (x, y) in enumerate(cells):
        board[y][x] = "XO"[number % 2]
        lines = "\n---+---+---\n".join(" " + " | ".join(row) for row in board)
        pictures.append(f"Move {number + 1}:\n```\n{lines}\n```")
    return "\n\n".join(pictures)


def records(chance: Random) -> str:
    def record(number: int) -> dict[str, object]:
        return {
            "id": number,
            "name": chance.choice(NAMES),
            "email": f"user{number}@example.com",
            "active": chance.random() < 0.9,
            "roles": ["reader"],
            "address": None,
            "score": chance.choice((0, 0, 0, 5)),
        }

    found = [record(n) for n in range(1, chance.choice((20, 20, 30, 40, 60, 100)) + 1)]
    return json.dumps(found, indent=chance.choice((None, 2)))


def log_lines(chance: Random) -> str:
    count, hour = chance.choice((20, 30, 40, 60, 90, 120)), chance.randrange(24)
    what = chance.choice(
        ("GET /health 200 0.4ms", "INFO heartbeat ok, nothing to do", "WARN retrying connection")
    )
    return "\n".join(
        f"2024-03-{chance.randrange(1, 3):02} {hour:02}:{n % 60:02}:{n // 60:02} {what}"
        for n in range(count)
    )


def csv_rows(chance: Random) -> str:
    header = "id,name,mon,tue,wed,thu,fri,remark"
    rows = [
        f"{n},{chance.choice(NAMES)},{','.join(chance.choices('1110', k=5))},"
        for n in range(1, chance.choice((20, 40, 80, 160)))
    ]
    return "\n".join([header, *rows])


def blank_table(chance: Random) -> str:
    columns = chance.choice((("Task", "Who", "When", "Done"), ("Date", "Hours", "Rate", "Sum")))
    count = chance.randrange(8, 20)
    numbered = chance.random() < 0.5
    head = "| # | " + " | ".join(columns) + " |\n|" + "---|" * (len(columns) + 1)
    rows = [f"| {n if numbered else ' '} |" + "     |" * len(columns) for n in range(1, count)]
    return "\n".join([head, *rows])


def attendance(chance: Random) -> str:
    usual = chance.choice(("present", "yes", "✓", "neutral"))
    names = chance.sample(NAMES, chance.randrange(10, 26))
    lines = [
        f"| {name} | " + " | ".join(chance.choices((usual, "-"), (12, 1), k=6)) + " |"
        for name in names
    ]
    return "\n".join(lines)


def equal_labels(chance: Random) -> str:
    label = chance.choice(("neutral", "O", "not_spam", "B"))
    count = chance.randrange(40, 120)
    if chance.random() < 0.5:
        return json.dumps([label] * count)
    return "\n".join(f"{n}. {chance.choices((label, 'other'), (15, 1))[0]}" for n in range(count))


def factorial_digits(chance: Random) -> str:
    number = chance.choice((300, 400, 500, 600, 700, 800))
    return f"{number}! = {math.factorial(number)}"


def powers(chance: Random) -> str:
    base = chance.choice((2, 3, 10))
    return "\n".join(f"{base}^{n} = {base**n}" for n in range(chance.randrange(30, 60)))


def binary_table(chance: Random) -> str:
    bits = chance.choice((4, 5, 6, 7))
    gap = chance.choice(("", " ", " | "))
    return "\n".join(gap.join(f"{n:0{bits}b}") for n in range(2**bits))


def random_bits(chance: Random) -> str:
    gap = chance.choice((" ", ", ", "\n", ""))
    return gap.join(chance.choices(("01", "HT", "ACGT")[chance.randrange(3)], k=600))


def hex_dump(chance: Random) -> str:
    lines = []
    for at in range(0, chance.choice((8, 16, 32, 64)) * 16, 16):
        data = bytes(16) if chance.random() < 0.8 else chance.randbytes(16)
        shown = "".join(chr(b) if 32 <= b < 127 else "." for b in data)
        lines.append(f"{at:08x}  {data.hex(' ')}  |{shown}|")
    return "\n".join(lines)


def zero_bytes(chance: Random) -> str:
    size = chance.choice((48, 64, 96))
    name = chance.choice(("buffer", "padding", "sbox"))
    rows = ["    " + ", ".join(["0x00"] * 8) + "," for _ in range(size // 8)]
    return f"static const uint8_t {name}[{size}] = {{\n" + "\n".join(rows) + "\n};"


def encoded_zeros(chance: Random) -> str:
    size = chance.choice((200, 600, 1200))
    middle = "".join(chance.choices("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdef0123456789+/", k=size // 4))
    return "data:image/png;base64," + middle + "A" * size + middle[::-1] + "=="


def multiplication(chance: Random) -> str:
    number = chance.randrange(2, 20)
    last = chance.choice((12, 20, 50, 100))
    return "\n".join(f"{number} x {n} = {number * n}" for n in range(1, last + 1))


def timetable(chance: Random) -> str:
    every, stop = chance.choice((5, 10, 15, 20)), chance.choice(("Harbour", "Town Hall"))
    minutes = range(6 * 60, 6 * 60 + chance.choice((30, 60, 90, 120)) * every, every)
    return "\n".join(f"{m // 60:02}:{m % 60:02}  Line 4  {stop}  on time" for m in minutes)


def sparse_vectors(chance: Random) -> str:
    size, classes = chance.choice((10, 16, 24)), chance.choice((8, 16, 24, 40))
    lines = []
    for number in range(classes):
        vector = [int(i == number % size) for i in range(size)]
        lines.append(f'"{chance.choice(NAMES).lower()}_{number}": {vector},')
    return "{\n" + "\n".join(lines) + "\n}"


KINDS = (
    identity_matrix, zero_vector, zero_matrix, equal_boxes, empty_board, played_boards, records,
    log_lines, csv_rows, blank_table, attendance, equal_labels, factorial_digits, powers,
    binary_table, random_bits, hex_dump, zero_bytes, encoded_zeros, multiplication, timetable,
    sparse_vectors,
)  # fmt: skip
