"""One script a question; `results/` holds the committed tables with the commands that made them."""
