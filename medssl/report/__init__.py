"""One HTML file about a pretraining run or about what was learnt from its few labels."""
