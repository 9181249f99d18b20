"""What is to be measured: a suite, its cells, and what each number depends on."""
