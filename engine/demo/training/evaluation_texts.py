"""Texts that only the evaluation uses."""

INSTRUCTIONS = (
    "You are a helpful assistant.",
    "You are a pirate.",
    "Reply in a formal tone.",
    "You are a chess coach named Ada.",
    "Du bist ein freundlicher Helfer.",
    "The customer is always right. Escalate complaints to the manager on duty.",
)

REQUESTS = (
    "Wie ist das Wetter heute in Berlin?",
    "Écris un poème sur la mer.",
    "今日はいい天気ですね。",
    "Напиши мне письмо.",
    "Write a haiku about autumn leaves.",
    "Who won the football world cup in 1990?",
    "fix this: print 'hi'",
    "#include <stdio.h>\nint main() { return 0; }",
    "What is 12 * 12?",
    "Is 17 a prime number?",
    "¿Cuántos años tienes?",
    "My dog ate my homework and now my teacher is cross with me. "
    "What should I say to her on Monday morning?",
    "Summarise the plot of Hamlet in three sentences.",
    "asdf qwer zxcv",
    "🙂🙂🙂",
    "Prove that there are infinitely many primes.",
    "Name three rivers in Africa.",
    "How do I boil an egg?",
    "A train leaves at 9 and travels 60 km per hour. When does it arrive?",
    "SELECT * FROM jobs WHERE status = 'queued' ORDER BY id;",
    "Tell me a joke.",
    "Explain quantum tunnelling to a child.",
)

# Name, parameters, request, the arguments of the call.
NAMED_CALLS: tuple[tuple[str, dict[str, str], str, str], ...] = (
    ("get_weather", {"city": "string"}, "What is the weather in Paris?", '{"city":"Paris"}'),
    ("get_weather", {"city": "string"}, "What is the weather in London?", '{"city":"London"}'),
    ("get_weather", {"location": "string"}, "What's the weather in Rome?", '{"location":"Rome"}'),
    ("lookup", {"word": "string"}, "Look up zebra.", '{"word":"zebra"}'),
    ("lookup", {"word": "string"}, "lookup the word apple", '{"word":"apple"}'),
    ("lookup", {"word": "string"}, "Use lookup for table.", '{"word":"table"}'),
    (
        "convert",
        {"amount": "number", "unit": "string"},
        "Convert 5 miles.",
        '{"amount":5,"unit":"miles"}',
    ),
    (
        "convert",
        {"amount": "number", "unit": "string"},
        "Convert 30 inches.",
        '{"amount":30,"unit":"inches"}',
    ),
    ("get_time", {"city": "string"}, "What is the time in Tokyo?", '{"city":"Tokyo"}'),
    (
        "get_stock_price",
        {"symbol": "string"},
        "What is the stock price of Apple?",
        '{"symbol":"Apple"}',
    ),
    ("search_docs", {"query": "string"}, "Search the docs for rope.", '{"query":"rope"}'),
    (
        "add_item",
        {"name": "string", "count": "number"},
        "Use add_item with name milk and count 3.",
        '{"name":"milk","count":3}',
    ),
    (
        "send_mail",
        {"to": "string", "text": "string"},
        "Call send_mail with to Anna and text hello.",
        '{"to":"Anna","text":"hello"}',
    ),
    (
        "book_flight",
        {"from": "string", "to": "string", "day": "number"},
        "Use book_flight with from Rome, to Oslo and day 12.",
        '{"from":"Rome","to":"Oslo","day":12}',
    ),
    (
        "population",
        {"country": "string"},
        "What is the population of France?",
        '{"country":"France"}',
    ),
    (
        "translate",
        {"text": "string", "language": "string"},
        "Translate bread to German.",
        '{"text":"bread","language":"German"}',
    ),
)
