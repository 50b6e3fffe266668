"""What answers the policy between its turns: the search environment."""
