"""Letters to shoppers: written down with what they tell of, sent afterwards."""
