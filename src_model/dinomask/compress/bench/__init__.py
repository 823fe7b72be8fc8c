"""What each compressed model costs and gains, on the user's own images and machine.

Every variant lives in a process of its own, so that memory can be told apart; they
work in turns, so that whatever else the machine does weighs on all alike.
"""
