"""What is compared with what: pairs with the dense twin, statistics, curves. Imports records, draws nothing."""
