"""What every part uses: errors, files, where a result came from. Neither chemistry nor torch, and nothing else of the package."""
