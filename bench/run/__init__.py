"""Running cells: the session, its workers, the state and processes that they may leave behind, and progress."""
