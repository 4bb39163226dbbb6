"""A recorded campaign in the live console: a player, its keys, and the scratch store that it plays into."""
