"""`mh-batch doctor`: is everything here that a night needs, and is it sound?"""
