"""Sentences and paragraphs that the loops of the corpus are made of."""

SENTENCES = (
    "I am sorry, but I cannot open the door while the alarm is on.",
    "The results of the second experiment agree with those of the first.",
    "Let me think about this again.",
    "We need to answer the user.",
    "In the spring the river rises and the lower fields are under water for weeks.",
    "It is important to note that every case is different.",
    "The function returns the number of items that match.",
    "She looked out of the window and said nothing.",
    "Please make sure that you have saved your work before you close the program.",
    "Rivers are long, and nobody knows where they begin.",
    "Thus the sum of the first and the last term is the same as before.",
    "The committee thanks all members for their patience.",
    "Maybe the question asks for something else.",
    "Add the flour, stir well, and let it rest for an hour.",
    "However, there is another way to look at it.",
    "The old man went down to the harbour to see whether the boat had come.",
    "If the value is greater than the limit, the request is refused.",
    "You can find more about this on our website.",
    "Our team is working hard to bring you the best experience.",
    "Now we compute the derivative with respect to x.",
)

COUNTED = (
    "This is attempt number {} to solve the problem.",
    "Step {}: check the next candidate and go on.",
    "Thought {} about rivers.",
    "{}. The quick brown fox jumps over the lazy dog.",
    "I have now read page {} of the report and found nothing new in it.",
    "Let me try again with the value {} and see whether the equation holds.",
    "- Item {} is the same as the one before.",
    "Reason {}: it is good for your health and for your mind.",
    "At iteration {} the loss did not change.",
    "Then we look at case {}, where nothing is different from the last case.",
    "Wait, that was check {}, so we have to do it once more.",
    "In chapter {} the hero goes back to the village and meets his old friend again.",
    "Day {}: nothing happened. I waited at the station and went home.",
    "The {}th sheep jumps over the fence.",
    "So the answer to question {} is also that it depends on the context.",
    "user{}: hello, is anybody here?",
    "Option {}) None of the above.",
    "Figure {} shows the same result for the next sample of the series.",
    "We repeat the procedure for n = {} and obtain the same bound as in the previous section.",
    "Version {} brings small improvements and fixes of errors.",
)

TWICE_COUNTED = (
    "From {} it follows that {} is also too small, so we go on.",
    "If {} people share the cake, then {} people get nothing at all from it.",
    "On page {} we see that line {} is the same as before, and so on.",
    "The element at {} is smaller than the element at {}, so we swap them and go on.",
)

PARAGRAPHS = (
    "The village lies in a valley between two low hills, and most of the people who live there "
    "have never been further than the market town. In the morning they take the cows to the "
    "upper meadow, and in the evening they bring them home again. On Sundays the bell of the "
    "small church can be heard as far as the mill, where the old road crosses the stream.",
    "When we talk about the performance of a program, we usually mean one of two things. Either "
    "we ask how long it takes until a single answer is there, or we ask how many answers it can "
    "give in an hour. Both are useful, but they are not the same, and a change that makes one of "
    "them better may well make the other one worse.",
    "To make the dough, put the flour into a large bowl and press a hollow into the middle. Pour "
    "the warm milk, the yeast and a spoon of sugar into it and wait until small bubbles rise. Then "
    "add the butter, the eggs and the salt, and knead everything for at least ten minutes, until "
    "the dough no longer sticks to your hands.",
    "Photosynthesis is the process by which plants turn light into chemical energy. It takes place "
    "in the chloroplasts, where chlorophyll takes up red and blue light. Water is split, oxygen is "
    "set free, and the energy that is won is used to build sugar from carbon dioxide. Without it "
    "there would be no food and hardly any oxygen on our planet.",
    "The user wants a story about a lighthouse. I should write something short and calm, with a "
    "keeper who lives alone and a storm that changes everything. Maybe the storm brings a guest. "
    "The guest could be his brother. I have to be careful not to make it too sad, for the user "
    "asked for something to read to a child before going to sleep.",
    "Dear customer, thank you for your message. We are sorry to hear that the parcel has not "
    "arrived. Our records show that it left the warehouse on Monday and was handed to the carrier "
    "on the same day. Please give us two more days to find out where it is. If we do not find it, "
    "we will send you a new one at no cost or give you your money back.",
    "The treaty was signed in the autumn of that year, after seven weeks of talks. It gave the "
    "northern provinces a parliament of their own, but left the army and the customs in the hands "
    "of the crown. Neither side was content. The merchants of the coast feared for their trade, "
    "and the farmers of the plain had hoped that the tax on salt would fall.",
    "To find the shortest path we keep a queue of nodes ordered by their distance from the start. "
    "In each round we take the node with the smallest distance and look at its neighbours. If the "
    "way through this node is shorter than what we knew before, we write the new distance down and "
    "put the neighbour into the queue again. We stop when the goal comes out of the queue.",
)

CODE = (
    "    if value is None:\n        return default\n",
    "for (int i = 0; i < n; i++) {\n    total += values[i];\n}\n",
    "def test_add(self):\n    self.assertEqual(add(1, 2), 3)\n\n",
    "| 0 | 0 | 0 | 0 | 0 | 0 | 0 | 0 |\n",
    '<div class="card"><p>Text</p></div>\n',
    "SELECT name FROM users WHERE id = 1;\n",
    "            }\n",
    '{"role": "user", "content": ""},\n',
)

OPENINGS = (
    "We have a question about the history of the town, and the user wants a short answer.",
    "Sure! Here is a first draft of what you asked for, with a few remarks at the end.",
    "Let us look at the data before we say anything about the cause. There are three columns.",
    "The problem can be solved in two ways; the first is simple, and the second is fast.",
    "Once upon a time, in a country far away, there lived a tailor who had three daughters.",
    "",
)

WORDS = (
    "water stone light morning answer garden paper engine winter music bridge letter silver "
    "market shadow number window summer forest doctor island button castle dinner energy flower "
    "guitar hammer insect jacket kitchen ladder mirror needle office pencil quarter rabbit saddle "
    "ticket uncle valley wagon yellow zebra anchor basket candle desert eagle family glove heaven "
    "iron journal king lemon mountain north ocean prince queen river school tower village quickly "
    "slowly never always perhaps under above almost bright empty narrow quiet strange tired"
).split()

# of two tokens and more
RARE_WORDS = (
    "quagmire turnstile birdhouse wheelbarrow snowdrift lampshade pitchfork thimble gooseberry "
    "hedgehogs millstone rowboats tadpole windowsill cobblestone drumsticks fishhook gramophone "
    "harpsichord inkwell jackdaw kingfisher larkspur moonbeam nightshade parsnip quicksand "
    "sandcastle toadstool watermill yardstick zeppelin"
).split()
