"""The processes of a job: how they join, what they tell each other, and how all of them end."""
