"""Honest answers that repeat themselves by their form: songs, forms, code, thoughts that count."""

from random import Random

from .honest_data import NAMES

VERSES = (
    "The harbour lamps are burning low,\nThe tide is at the door,",
    "I left my coat at Marlow Green,\nMy fiddle at the inn,",
    "The baker's boy has gone to sea,\nThe baker's gone to bed,",
    "There's snow upon the northern road\nAnd ice along the mill,",
    "My mother told me long ago\nTo mind the winding stair,",
)
CHORUSES = (
    "Oh, roll the barrels down the quay,\nRoll them one and all,\n"
    "And we'll be home by Michaelmas\nBefore the first snows fall.",
    "Hey ho, the wind and the rain,\nHey ho, and round again,\nHey ho, the wind and the rain!",
    "Na na na na, na na na na, hey hey hey, goodbye.\n" * 3,
)
EMOJI = "⭐🔥🌲⬛🟩❤️😂🍎"


def song(chance: Random) -> str:
    chorus = chance.choice(CHORUSES).strip()
    verses = chance.sample(VERSES, chance.randrange(3, 6))
    return "\n\n".join([f"{verse}\n\n{chorus}" for verse in verses] + [chorus])


def bottles(chance: Random) -> str:
    first = chance.choice((10, 20, 40, 60, 99))
    return "\n".join(
        f"{n} bottles of beer on the wall, {n} bottles of beer.\n"
        f"Take one down, pass it around, {n - 1} bottles of beer on the wall."
        for n in range(first, 0, -1)
    )


def cumulative_song(chance: Random) -> str:
    things = ["cat", "dog", "goat", "cow", "goose", "mill", "bell", "clock", "kettle", "drum"]
    chance.shuffle(things)
    verses, tail = [], "and that was the end of the tune."
    for thing in things[: chance.randrange(5, 11)]:
        tail = f"the {thing} that stood by the door,\n{tail}"
        verses.append(f"This is {tail}")
    return "\n\n".join(verses)


def litany(chance: Random) -> str:
    answer = chance.choice(("have mercy on us.", "pray for us.", "we thank you for everything."))
    whom = ("Light of the morning", "Keeper of the gate", "Friend of the poor", "Giver of rain")
    return "\n".join(f"{chance.choice(whom)}, {answer}" for _ in range(chance.randrange(20, 60)))


def anaphora(chance: Random) -> str:
    begin = chance.choice(("I have a dream that one day", "We shall not forget", "If only I had"))
    ends = ("the bridge", "those who built it", "a quiet street", "my father's garden", "the sea")
    return " ".join(f"{begin} {chance.choice(ends)}." for _ in range(chance.randrange(12, 40)))


def written_out(chance: Random) -> str:
    line = chance.choice(("I will not talk in class.", "I must not tell lies.", "Hello, world!"))
    count = chance.choice((10, 20, 25, 30, 50))
    numbered = chance.random() < 0.5
    return "\n".join(f"{n}. {line}" if numbered else line for n in range(1, count + 1))


def numbered_sentences(chance: Random) -> str:
    line = chance.choice(
        (
            "The quick brown fox jumps over the lazy dog.",
            "This page is intentionally left blank.",
            "All work and no play makes Jack a dull boy.",
        )
    )
    return "\n".join(f"Line {n}: {line}" for n in range(1, chance.choice((20, 40, 60, 80, 100))))


def one_word(chance: Random) -> str:
    word = chance.choice((" ha", " no", " very", " buffalo", " tick", " la", " knock"))
    return "He said:" + word * chance.randrange(20, 250) + "!"


def emoji_rows(chance: Random) -> str:
    sign = chance.choice(EMOJI)
    if chance.random() < 0.5:
        return sign * chance.randrange(20, 120)
    size = chance.randrange(4, 11)
    return "\n".join(sign * n for n in range(1, size)) + "\n" + (sign * size + "\n") * size


def patterns(chance: Random) -> str:
    sign, size = chance.choice("*#oX+"), chance.randrange(6, 24)
    match chance.randrange(3):
        case 0:
            return "\n".join(" " * (size - n) + sign * (2 * n - 1) for n in range(1, size))
        case 1:
            return "\n".join((sign + " ") * size for _ in range(min(size, 16)))
        case _:
            line = ("-" * size + "+") * 4
            return "\n".join([line, "|" + " " * (5 * size) + "|"] * 10)


def empty_form(chance: Random) -> str:
    fields = ("Name", "Date of birth", "Street", "Postcode", "Telephone", "Signature")
    people = chance.randrange(3, 10)
    form = "\n".join(f"{field}: ____________________" for field in fields)
    return "\n\n".join(f"Guest {n}\n{form}" for n in range(1, people + 1))


def checklist(chance: Random) -> str:
    count = chance.choice((20, 40, 100))
    return "\n".join(f"- [{chance.choice('x ')}] Review chapter {n}" for n in range(1, count))


def workout(chance: Random) -> str:
    day = "- 10 push-ups\n- 20 squats\n- 30 seconds plank\n- 5 minutes rest"
    if chance.random() < 0.5:
        return "\n\n".join(f"**Day {n}**\n{day}" for n in range(1, chance.choice((8, 15, 31, 62))))
    days = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
    return "\n\n".join(f"{name}:\n{day}" for name in days * 2)


def knitting(chance: Random) -> str:
    rows = ("*K2, P2*; repeat from * to end.", "*P2, K2*; repeat from * to end.")
    return "\n".join(f"Row {n}: {rows[n % 2]}" for n in range(1, chance.randrange(20, 70)))


def drum_tab(chance: Random) -> str:
    bar = "HH|x-x-x-x-x-x-x-x-|\nSD|----o-------o---|\nBD|o-------o-o-----|"
    return "\n\n".join(f"Bar {n}\n{bar}" for n in range(1, chance.randrange(6, 20)))


def inserts(chance: Random) -> str:
    table, count = chance.choice(("users", "events", "orders")), chance.choice((8, 16, 30, 60, 100))
    if chance.random() < 0.4:
        return "\n".join([f"INSERT INTO {table} DEFAULT VALUES;"] * min(count, 30))
    return "\n".join(
        f"INSERT INTO {table} (id, name, active, created_at) "
        f"VALUES ({n}, '{chance.choice(NAMES)}', TRUE, NOW());"
        for n in range(1, count + 1)
    )


def accessors(chance: Random) -> str:
    fields = chance.sample(("name", "size", "colour", "owner", "price", "state", "kind", "code"), 6)
    return "\n\n".join(
        f"    public String get{field.title()}() {{\n        return this.{field};\n    }}\n\n"
        f"    public void set{field.title()}(String {field}) {{\n"
        f"        this.{field} = {field};\n    }}"
        for field in fields
    )


def tests(chance: Random) -> str:
    return "\n\n".join(
        f"def test_case_{n}(client):\n    response = client.get('/items/{n}')\n"
        f"    assert response.status_code == 200\n    assert response.json()['id'] == {n}"
        for n in range(1, chance.choice((8, 16, 30, 60)))
    )


def markup(chance: Random) -> str:
    cell = chance.choice(("<td></td>", '<td class="empty">&nbsp;</td>', "<li></li>"))
    row = "  <tr>\n" + f"    {cell}\n" * chance.randrange(4, 9) + "  </tr>\n"
    return "<table>\n" + row * chance.randrange(3, 8) + "</table>"


def manifest(chance: Random) -> str:
    return "\n---\n".join(
        f"apiVersion: v1\nkind: Service\nmetadata:\n  name: web-{n}\nspec:\n  selector:\n"
        f"    app: web\n  ports:\n    - port: 80\n      targetPort: 8080"
        for n in range(chance.choice((6, 12, 24, 48)))
    )


def cases(chance: Random) -> str:
    modulus = chance.choice((7, 12, 30))
    thoughts = (
        f"n = {n}: n² + n + 1 = {n * n + n + 1}, which mod {modulus} is "
        f"{(n * n + n + 1) % modulus}. {'Yes!' if (n * n + n + 1) % modulus == 0 else 'No.'}"
        for n in range(1, chance.choice((20, 40, 80)))
    )
    return "We check the cases one by one. " + " ".join(thoughts)


def collatz(chance: Random) -> str:
    number = chance.choice((27, 97, 54, 73))
    steps: list[str] = []
    while number != 1 and len(steps) < 60:
        after = number // 2 if number % 2 == 0 else 3 * number + 1
        rule = "even, so we halve it" if number % 2 == 0 else "odd, so we triple it and add one"
        steps.append(f"{number} is {rule}: {after}.")
        number = after
    return "\n".join(steps)


def conjugation(chance: Random) -> str:
    verbs = chance.sample(("parl", "chant", "dans", "port", "aim", "donn", "march", "pass"), 6)
    ends = {"je": "e", "tu": "es", "il": "e", "nous": "ons", "vous": "ez", "ils": "ent"}
    return "\n\n".join("\n".join(f"{who} {verb}{ends[who]}" for who in ends) for verb in verbs)


def letters(chance: Random) -> str:
    body = (
        "Thank you for your application. We have read it with care. Unfortunately we cannot offer "
        "you a place this year, but we wish you all the best.\n\nYours sincerely,\nThe Secretary"
    )
    names = chance.sample(NAMES, chance.randrange(4, 16))
    return "\n\n---\n\n".join(f"Dear {name},\n\n{body}" for name in names)


KINDS = (
    song, bottles, cumulative_song, litany, anaphora, written_out, numbered_sentences, one_word,
    emoji_rows, patterns, empty_form, checklist, workout, knitting, drum_tab, inserts, accessors,
    tests, markup, manifest, cases, collatz, conjugation, letters,
)  # fmt: skip
