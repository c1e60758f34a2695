"""Answers that the teacher wrote to training prompts: made, judged, kept in a file, dealt out."""
