"""Many runs under one recipe, and the paper's tables from them."""
