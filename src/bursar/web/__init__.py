"""What every HTTP surface shares: principals, problem bodies, bounded bodies, the edge."""
