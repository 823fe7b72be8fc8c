"""Long work in a process of its own, which outlives the window that started it. No torch here."""
