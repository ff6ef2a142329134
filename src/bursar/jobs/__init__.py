"""What runs by itself: one file a job, and the schedule that calls them."""
