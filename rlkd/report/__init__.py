"""`rlkd report`: what was seen of one or several runs, as one HTML file that needs no network."""
