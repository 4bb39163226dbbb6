"""The console's screens: live, help, and the questions that must be answered."""
