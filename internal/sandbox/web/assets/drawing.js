"use strict";

// Draws what a camera would see, on a canvas: nobody's document, nobody's face.

function drawDocument(canvas, title, country, back) {
	const c = frame(canvas, 1012, 638, back ? "#d9e3ea" : "#dfe9f6");
	const shade = Math.random() * 12 - 6; // no two pictures are the same
	c.fillStyle = "#28456e";
	c.fillRect(0, 0, canvas.width, 96);
	c.fillStyle = "#ffffff";
	c.font = "bold 44px sans-serif";
	c.fillText(title.toUpperCase() + "  " + country, 36, 64);
	c.fillStyle = "#1d2433";
	if (back) {
		c.fillRect(0, 150, canvas.width, 90);
	} else {
		c.save();
		c.translate(48 + shade, 140);
		c.scale(0.55, 0.55);
		face(c);
		c.restore();
		c.font = "34px sans-serif";
		["Name  SPECIMEN", "Born  01 JAN 1990", "Number  X0000000"].forEach((line, i) => c.fillText(line, 420 + shade, 210 + 80 * i));
	}
	c.font = "38px monospace";
	c.fillText("SPECIMEN<<NOT<A<DOCUMENT<<<<<<<<<<<<", 36, 540);
	c.fillText("X0000000<<" + country + "<<<<<<<<<<<<<<<<<<<<<<<", 36, 596);
}

function drawFace(canvas) {
	const c = frame(canvas, 480, 640, "#cfd9e6");
	c.translate(Math.random() * 12 - 6, 0);
	face(c);
}

function frame(canvas, width, height, background) {
	canvas.width = width; // clears it
	canvas.height = height;
	const c = canvas.getContext("2d");
	c.fillStyle = background;
	c.fillRect(0, 0, width, height);
	return c;
}

// face is 480 wide and 640 high.
function face(c) {
	ellipse(c, "#3d5573", 240, 640, 200, 170);
	ellipse(c, "#e3b98f", 240, 300, 130, 170);
	ellipse(c, "#4a3526", 240, 170, 135, 75);
	ellipse(c, "#ffffff", 190, 280, 24, 14);
	ellipse(c, "#ffffff", 290, 280, 24, 14);
	ellipse(c, "#22303f", 190, 280, 10, 10);
	ellipse(c, "#22303f", 290, 280, 10, 10);
	ellipse(c, "#b3705c", 240, 390, 45, 12);
}

function ellipse(c, colour, x, y, width, height) {
	c.fillStyle = colour;
	c.beginPath();
	c.ellipse(x, y, width, height, 0, 0, 2 * Math.PI);
	c.fill();
}
