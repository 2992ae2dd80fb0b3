"""The data disk of the guests, and how it is made from the folder ``files``."""
