// Made by tools/hardware from boards/*.toml: change those.
// width, length, thickness, overhang, top, below
devkitc = [27.9, 47.9, 1.6, 6.5, 4.5, 9];
esp32cam = [27, 40.5, 1.6, 0, 9, 11.5];
