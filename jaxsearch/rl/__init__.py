"""From rewards to an update. A forward pass reaches this package as a callable."""
