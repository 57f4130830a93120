// Enclosures of the nodes, in mm. One file, one part at a time:
//     openscad -D 'part="box_body"' -o box_body.stl enclosure.scad
// Every part comes out as it lies on the print bed, z = 0 at the bed, and needs no support there.
// SPDX-License-Identifier: CERN-OHL-P-2.0
include <boards.scad>

part = "screen_plate";

wall = 2.4;           // of boxes
skin = 2.0;           // of the screen's plates
clearance = 0.4;      // between printed parts, all around a board
rod = 4.4;            // hole for the M4 rods
screw = 3.4;          // hole for M3
pilot = 2.8;          // M3 cuts its own thread in this
gland = 16.3;         // M16 cable gland
eps = 0.01;
$fn = 72;
few = 24;             // facets of small holes

// ---------------------------------------------------------------- screen
inner_r = 40;         // free inside
ring_r = 50;          // flat part of a plate
rim_r = 70;           // skirt's edge; the skirt falls at 45 degrees
pitch = 15;           // between plates: skirts overlap by 5, so no ray of sun comes in level
post_r = 44;          // circle of the three rods
post_d = 9;
arm_hole = 10;        // of the two screws between base and arm, from the middle

module rods(d, h, z = 0) {
    for (a = [90, 210, 330]) rotate(a) translate([post_r, 0, z]) cylinder(d = d, h = h, $fn = few);
}

// lies upside down: ring on the bed, skirt rising outward at 45 degrees
module skirt() {
    drop = rim_r - ring_r;
    slant = skin * sqrt(2);
    rotate_extrude() polygon([
        [inner_r, 0], [ring_r, 0], [rim_r, drop], [rim_r - skin / sqrt(2), drop + skin / sqrt(2)],
        [ring_r - slant + skin, skin], [inner_r, skin]
    ]);
}

module screen_plate() {
    difference() {
        union() {
            skirt();
            rods(post_d, pitch);
        }
        rods(rod, pitch + 2, -1);
    }
}

// closed; the rods end in it, in nuts pressed into blind pockets from below
module screen_roof() {
    difference() {
        union() {
            skirt();
            cylinder(r = inner_r + 1, h = skin + 1);
            rods(11.4, pitch);
        }
        rods(rod, pitch, skin + 2);
        // M4 nut, 7 mm across flats, open at the lower end of the post in use, which is the top here
        for (a = [90, 210, 330]) rotate(a) translate([post_r, 0, pitch - 3.4])
            cylinder(d = 7.3 / cos(30), h = 4, $fn = 6);
    }
}

// in use as it lies: floor with vents, mast for the sensors' boards, tongue to the arm
module base_floor(h) {
    difference() {
        union() {
            cylinder(r = ring_r + 4, h = h);
            translate([-20, -arm_reach(), 0]) cube([40, arm_reach(), h]);
        }
        rods(rod, h + 2, -1);
        for (x = [-arm_hole, arm_hole]) translate([x, -arm_reach() + 10, -1]) cylinder(d = rod, h = h + 2, $fn = few);
        translate([0, -ring_r + 14, -1]) cylinder(d = 7, h = h + 2, $fn = few);  // sensor cable
    }
}

function arm_reach() = 78;

module mast(x, y, turn = 0) {
    // holes take breakout boards with 2.5 mm holes or cable ties
    translate([x, y, 0]) rotate(turn) difference() {
        translate([-16, -1.5, 0]) cube([32, 3, 70]);
        for (z = [14 : 8 : 64], dx = [-10.16, 0, 10.16]) translate([dx, 2.5, z]) rotate([90, 0, 0])
            cylinder(d = 2.7, h = 5, $fn = few);
    }
}

module screen_base_weather() {
    difference() {
        base_floor(4);
        for (r = [14, 24, 34], n = [0 : 5]) rotate(n * 60 + r * 2) translate([r, 0, -1]) cylinder(d = 7, h = 6, $fn = few);
    }
    mast(0, 0);
}

// PMS5003, 50 x 38 x 21: it stands with its openings down over two ducts, the rib between them parts inlet and exhaust
pm = [50, 21, 38];
pm_rib = 3;
duct_h = 8;

module screen_base_air() {
    difference() {
        union() {
            base_floor(4);
            translate([-pm.x / 2 - 3, -2, 0]) cube([pm.x + 6, pm.y + 7, duct_h]);
            translate([-pm.x / 2 - clearance - wall, 1 - clearance - wall, 0])
                cube([pm.x + 2 * (clearance + wall), pm.y + 2 * (clearance + wall), duct_h + 22]);
        }
        translate([-pm.x / 2 - clearance, 1 - clearance, duct_h])
            cube([pm.x + 2 * clearance, pm.y + 2 * clearance, 40]);
        for (side = [-1, 1]) translate([side * (pm.x / 4 + pm_rib / 4) - (pm.x / 2 - 4 - pm_rib / 2) / 2, 4, -1])
            cube([pm.x / 2 - 4 - pm_rib / 2, pm.y - 6, duct_h + 2]);
        // room for the plug, open at the top
        translate([-8, -6, duct_h + 10]) cube([16, 8, 40]);
        for (n = [0 : 4]) rotate(200 + n * 35) translate([33, 0, -1]) cylinder(d = 7, h = 6, $fn = few);
    }
    mast(0, -12);
}

// printed on its side; holds the base at the pole
module screen_arm() {
    depth = 30;
    reach = 70;
    difference() {
        union() {
            cube([reach, 8, depth]);
            cube([10, 62, depth]);
            // strut at 45 degrees
            linear_extrude(depth) polygon([[9, 50], [9, 40], [42, 7], [52, 7]]);
            // saddle: a V to the pole of 25 to 60 mm
            linear_extrude(depth) polygon([[eps, 4], [-12, 4], [-12, 8], [eps, 8]]);
            linear_extrude(depth) polygon([[eps, 54], [-12, 54], [-12, 58], [eps, 58]]);
        }
        // to the base's tongue
        for (z = [depth / 2 - arm_hole, depth / 2 + arm_hole]) translate([reach - 10, -1, z]) rotate([-90, 0, 0]) cylinder(d = rod, h = 10, $fn = few);
        // V across the two ribs
        translate([-13, -1, depth / 2]) rotate([-90, 0, 0]) linear_extrude(70)
            polygon([[0, -11], [11, 0], [0, 11]]);
        // hose clamps, 12 mm wide
        for (y = [16, 36]) translate([6, y, -1]) cube([2.2, 13, depth + 2]);
    }
}

// ---------------------------------------------------------------- cradle of a board without holes
// corner posts around the outline, ledges under the short edges between the rows of pins
module cradle(b, h) {
    w = b[0]; l = b[1]; t = b[2];
    c = clearance;
    grip = 5;
    for (x = [-c - wall, w + c - 0], y = [-c - wall, l + c - grip + wall]) translate([x, y, 0]) cube([wall, grip, h + t]);
    for (y = [-c - wall, l + c], x = [-c - wall, w + c + wall - 5]) translate([x, y, 0]) cube([5, wall, h + t]);
    // ledges: between the rows, where the board's underside is bare
    for (y = [-c - wall, l - 1.6]) translate([w / 2 - 8, y, 0]) cube([16, wall + c + 1.6, h]);
}

// ---------------------------------------------------------------- electronics box
box = [195, 105, 62];  // inside; what lies in it and where: STOWED in tools/hardware_build/enclosure.py
boss = 9;

module box_outline(grow, h, r = 4) {
    linear_extrude(h) offset(r = r) offset(delta = grow - r) square([box.x, box.y]);
}

// a level hole that prints without support: a circle whose top is cut off flat where 45 degrees begin
module level_hole(d, h) {
    rotate([90, 0, 0]) linear_extrude(h) union() {
        circle(d = d);
        intersection() {
            rotate(45) square(d / 2);
            translate([-d, 0]) square([2 * d, d / 2]);
        }
    }
}

module bosses(h, d) {
    for (x = [boss / 2 - 1, box.x - boss / 2 + 1], y = [boss / 2 - 1, box.y - boss / 2 + 1])
        translate([x, y, 0]) cylinder(d = d, h = h, $fn = few);
}

module box_body() {
    difference() {
        union() {
            difference() {
                box_outline(wall, wall + box.z);
                translate([0, 0, wall]) box_outline(0, box.z + 1, 2);
            }
            bosses(wall + box.z, boss);
            // ears for the mount
            for (x = [box.x / 2 - 30, box.x / 2 + 30], y = [-wall - 11, box.y + wall + 11])
                hull() {
                    translate([x, y, 0]) cylinder(d = 14, h = 4);
                    translate([x - 12, y > 0 ? box.y : -1, 0]) cube([24, 1, 4]);
                }
        }
        translate([0, 0, wall + box.z - 14]) bosses(20, pilot);
        for (x = [box.x / 2 - 30, box.x / 2 + 30], y = [-wall - 11, box.y + wall + 11])
            translate([x, y, -1]) cylinder(d = rod, h = 6, $fn = few);
        // glands in the lower wall, a nut of 24 mm between any two
        for (x = [27, 74, 121, 168]) translate([x, 1, wall + 22]) level_hole(gland, wall + 2);
        // drain and breather
        translate([box.x / 2, 1, wall + 6]) level_hole(4, wall + 2);
    }
    translate([board_at.x, board_at.y, wall - eps]) cradle(devkitc, cradle_h);
    // ties: two over the batteries, two over each of the boards, which stand on the posts
    for (at = [[44.5, 58], [44.5, 86], [124.5, 58], [124.5, 86], [54, 17], [72, 17], [54, 31], [72, 31]])
        translate([at.x, at.y, wall - eps]) tie_post();
    for (y = [18, 48, 64, 94]) for (x = [140, 174]) translate([x, y, wall - eps]) tie_post();
}

cradle_h = 20;        // pins and the sockets of jumper wires are under the board
board_at = [12, 22];

module tie_post() {
    difference() {
        cube([8, 8, 6]);
        translate([-1, 2.4, 1.5]) cube([10, 3.2, 2]);
    }
}

lid_h = 4;

// a strip of soft EPDM, 2 x 1 mm, goes on the wall's edge
module box_lid() {
    difference() {
        union() {
            box_outline(wall, lid_h);
            // lip inside the wall
            translate([0, 0, lid_h - eps]) difference() {
                box_outline(-clearance, 3, 2);
                translate([0, 0, -1]) box_outline(-clearance - 2, 6, 2);
                bosses(6, boss + 2 * clearance + 1);
            }
        }
        translate([0, 0, -1]) bosses(10, screw);
    }
}

// plate between box or camera and pole or wall: V-groove for poles, four holes for walls
module pole_mount() {
    w = 90; l = 150; h = 14;
    difference() {
        union() {
            translate([-w / 2, -l / 2, 0]) cube([w, l, 5]);
            for (y = [-45, 45]) translate([-w / 2, y - 12, 0]) cube([w, 24, h]);
        }
        // the pole lies along y
        translate([0, -l, h + 4]) rotate([-90, 0, 0]) linear_extrude(2 * l) polygon([[-17, 0], [0, 17 - 4], [17, 0]]);
        // hose clamps go through
        for (y = [-45, 45], x = [-30, 30]) translate([x - 1.5, y - 7, -1]) cube([3, 14, h + 2]);
        // box: ears 60 apart across, 131.8 along; camera: 40 x 40; wall: 70 x 130
        for (x = [-30, 30], y = [-1, 1]) translate([x, y * (box.y / 2 + wall + 11), -1]) cylinder(d = rod, h = 8, $fn = few);
        for (x = [-20, 20], y = [-20, 20]) translate([x, y, -1]) cylinder(d = rod, h = 8, $fn = few);
        for (x = [-38, 38], y = [-66, 66]) translate([x, y, -1]) cylinder(d = 5.2, h = 8, $fn = few);
    }
}

// ---------------------------------------------------------------- camera
cam = [48, 62, 42];   // inside; the front wall lies on the bed
cam_board_at = [(cam.x - esp32cam[0]) / 2, (cam.y - esp32cam[1]) / 2];
cam_ledge = 12;       // room in front of the board for lens and ribbon
window_d = 25.4;
view_d = 20;

module cam_outline(grow, h, r = 4) {
    linear_extrude(h) offset(r = r) offset(delta = grow - r) square([cam.x, cam.y]);
}

module cam_bosses(h, d) {
    for (x = [2.5, cam.x - 2.5], y = [2.5, cam.y - 2.5]) translate([x, y, 0]) cylinder(d = d, h = h, $fn = few);
}

front = 4.4;          // 2.2 of it holds the window

module camera_body() {
    middle = [cam.x / 2, cam.y / 2];
    difference() {
        union() {
            difference() {
                cam_outline(wall, front + cam.z);
                translate([0, 0, front]) cam_outline(0, cam.z + 1, 2);
            }
            cam_bosses(front + cam.z, 8);
            // the hood's screws bite here
            for (x = [-wall, cam.x + wall - 4], y = [cam.y / 2 + 16]) translate([x, y, 0]) cube([4, 8, front + 8]);
        }
        translate([0, 0, front + cam.z - 14]) cam_bosses(20, pilot);
        translate([middle.x, middle.y, -1]) cylinder(d = view_d, h = 10);
        translate([middle.x, middle.y, front - 2.2]) cylinder(d = window_d, h = 10);
        // hood
        for (x = [-wall - 1, cam.x + wall - 9]) translate([x, cam.y / 2 + 20, 8]) rotate([0, 90, 0]) cylinder(d = pilot, h = 10, $fn = few);
        // gland in the lower wall
        translate([cam.x / 2, 1, front + cam.z - 13]) level_hole(gland, wall + 2);
    }
    translate([cam_board_at.x, cam_board_at.y, front - eps]) corner_posts(esp32cam, cam_ledge);
}

// holds a board at its four corners, from below and from the sides; the sides' inner edges are cut at 45 degrees
module corner_posts(b, h) {
    w = b[0]; l = b[1]; t = b[2]; c = clearance; g = 4;
    for (x = [0, 1], y = [0, 1]) translate([x * w, y * l, 0]) mirror([x, 0, 0]) mirror([0, y, 0]) difference() {
        translate([-c - wall, -c - wall, 0]) cube([g + wall, g + wall, h + t]);
        translate([-c, -c, h]) cube([g + 5, g + 5, t + 1]);
        translate([1.2, 1.2, -1]) cube([g + 5, g + 5, h + 5]);
    }
}

module camera_lid() {
    difference() {
        union() {
            cam_outline(wall, lid_h);
            translate([0, 0, lid_h - eps]) difference() {
                cam_outline(-clearance, 3, 2);
                translate([0, 0, -1]) cam_outline(-clearance - 2, 6, 2);
                cam_bosses(6, 10);
            }
            // pads press the board onto its posts, through 2 mm of foam
            for (y = [-1, 1]) translate([cam.x / 2 - 4, cam.y / 2 + y * (esp32cam[1] / 2 - 3) - 3, 0])
                cube([8, 6, cam.z + lid_h - cam_ledge - esp32cam[2] - 2]);
            // ears to the mount, 40 x 40 is inside the lid's outline: nuts go inside
        }
        translate([0, 0, -1]) cam_bosses(10, screw);
        for (x = [-20, 20], y = [-20, 20]) translate([cam.x / 2 + x, cam.y / 2 + y, -1]) cylinder(d = rod, h = 10, $fn = few);
    }
}

// sun and rain: a roof and cheeks before the window; stands on its front edge for printing
module camera_hood() {
    reach = 34;
    over = 14;           // along the body
    t = 2.4;
    w = cam.x + 2 * wall + 2 * clearance;
    h = cam.y / 2 + wall + clearance + 14;
    difference() {
        linear_extrude(reach + over) difference() {
            translate([-w / 2 - t, -14]) square([w + 2 * t, h + t]);
            translate([-w / 2, -20]) square([w, h + 6]);
        }
        // cheeks shorten downward
        translate([-w, -14 - eps, -eps]) rotate([0, 90, 0]) linear_extrude(2 * w)
            polygon([[0, 0], [-reach * 0.75, 0], [0, 26]]);
        translate([-w, 20, reach + 8]) rotate([0, 90, 0]) cylinder(d = screw, h = 2 * w, $fn = few);
    }
}

if (part == "screen_roof") screen_roof();
if (part == "screen_plate") screen_plate();
if (part == "screen_base_weather") screen_base_weather();
if (part == "screen_base_air") screen_base_air();
if (part == "screen_arm") screen_arm();
if (part == "box_body") translate([wall, wall, 0]) box_body();
if (part == "box_lid") translate([wall, wall, 0]) box_lid();
if (part == "pole_mount") pole_mount();
if (part == "camera_body") translate([wall, wall, 0]) camera_body();
if (part == "camera_lid") translate([wall, wall, 0]) camera_lid();
if (part == "camera_hood") camera_hood();
