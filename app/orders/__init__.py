"""What is sold and what is ordered: products, stock, and the basket, which is the buyer's open order."""
