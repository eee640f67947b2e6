"""What a run writes: its folder, the verdict file, the HTML report, the terminal's last screen."""
