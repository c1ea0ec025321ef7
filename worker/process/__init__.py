"""The process and its messages: one worker process, its parent, and how knocks reach it."""
