"""Tests of the label and box arithmetic: `/usr/bin/python3 -m unittest discover services/trainer`."""

import json
import pathlib
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).parent))

import numpy as np
import torch

import boxes as bx
import evaluate
import footage
import golden
import label
import net
import synthesize


class BoxTest(unittest.TestCase):
    def test_iou(self):
        cases = [
            ("same", [0, 0, 10, 10], [0, 0, 10, 10], 1.0),
            ("apart", [0, 0, 10, 10], [20, 0, 30, 10], 0.0),
            ("touching", [0, 0, 10, 10], [10, 0, 20, 10], 0.0),
            ("half", [0, 0, 10, 10], [0, 0, 10, 5], 0.5),
            ("third", [0, 0, 10, 10], [5, 0, 15, 10], 1 / 3),
            ("empty", [0, 0, 0, 0], [0, 0, 0, 0], 0.0),
        ]
        for name, a, b, want in cases:
            with self.subTest(name):
                self.assertAlmostEqual(float(bx.iou_matrix([a], [b])[0, 0]), want, places=6)

    def test_iou_of_nothing(self):
        self.assertEqual(bx.iou_matrix([], [[0, 0, 1, 1]]).shape, (0, 1))

    def test_nms_keeps_the_best_and_the_distant(self):
        found = [[0, 0, 10, 20], [1, 0, 11, 20], [40, 0, 50, 20]]
        self.assertEqual(bx.nms(found, [0.6, 0.9, 0.3], 0.5), [1, 2])
        self.assertEqual(bx.nms(found, [0.6, 0.9, 0.3], 0.95), [1, 0, 2])
        self.assertEqual(bx.nms([], [], 0.5), [])

    def test_match_uses_each_truth_once(self):
        truth = [[0, 0, 10, 20]]
        self.assertEqual(bx.match([[0, 0, 10, 20], [0, 0, 10, 19]], truth), [0, -1])
        self.assertEqual(bx.match([[0, 0, 10, 20]], []), [-1])
        self.assertEqual(bx.match([], truth), [])

    def test_interpolate(self):
        keys = {10: [0, 0, 10, 20], 20: [10, 0, 20, 20]}
        np.testing.assert_allclose(bx.interpolate(keys, 15), [5, 0, 15, 20])
        np.testing.assert_allclose(bx.interpolate(keys, 20), [10, 0, 20, 20])
        self.assertIsNone(bx.interpolate(keys, 9))
        self.assertIsNone(bx.interpolate(keys, 21))


class LabelTest(unittest.TestCase):
    def test_height_model_ignores_a_group(self):
        def person(x, foot):
            return [x - 10, foot - (20 + 0.2 * foot), x + 10, foot]

        observed = [person(x, foot) for x in range(50, 700, 60) for foot in range(120, 420, 40)]
        model = label.HeightModel.fit(observed + [[300, 100, 360, 300]])
        self.assertAlmostEqual(model(400, 300), 80, delta=1)

    def test_two_people_side_by_side_are_split(self):
        mask = np.zeros((footage.HEIGHT, footage.WIDTH), np.uint8)
        for x in (300, 326):
            mask[206:225, x + 5:x + 15] = 1
            mask[225:286, x:x + 22] = 1
        mask[240:250, 320:330] = 1  # they hold hands
        found = label.singles(mask, label.HeightModel([80, 0, 0]))
        self.assertEqual(len(found), 2)
        self.assertLess(bx.iou_matrix(found[:1], found[1:])[0, 0], 0.05)

    def test_a_group_is_not_one_person(self):
        mask = np.zeros((footage.HEIGHT, footage.WIDTH), np.uint8)
        mask[200:280, 300:390] = 1
        self.assertEqual(label.singles(mask, label.HeightModel([80, 0, 0])), [])

    def test_tracks_are_not_joined_through_the_edge(self):
        def track(frames, x):
            t = label.Track(frames[0], np.array([x, 200, x + 30, 280], np.float32), np.ones(1))
            for f in frames[1:]:
                t.add(f, np.array([x, 200, x + 30, 280], np.float32), np.ones(1))
            return t

        edge = footage.WIDTH - 30
        self.assertEqual(len(label.join([track([0, 1, 2], edge), track([20, 21], edge)], 60)), 2)
        self.assertEqual(len(label.join([track([0, 1, 2], 300), track([20, 21], 300)], 60)), 1)

    def test_mends(self):
        labels = [[(0, np.array([0, 0, 10, 20]))], [(0, np.array([0, 0, 10, 20]))], []]
        label.apply_mends(labels, {
            "erase": [{"from": 1, "to": 9, "inside": [0, 0, 20, 20]}],
            "add": [{"who": "x", "boxes": {"0": [100, 0, 110, 20], "2": [120, 0, 130, 20]}}],
        })
        self.assertEqual([[n for n, _ in row] for row in labels], [[0, 100], [100], [100]])
        np.testing.assert_allclose(labels[1][0][1], [110, 0, 120, 20])

    def test_the_committed_files_stay_in_the_training_slice(self):
        mends = json.loads(label.MENDS.read_text())
        for mend in mends["erase"]:
            self.assertLess(mend["from"], footage.TRAIN_END)
        for mend in mends["add"]:
            self.assertLess(max(int(f) for f in mend["boxes"]), footage.TRAIN_END)
        for frame, row in json.loads(evaluate.VALIDATION.read_text())["frames"].items():
            self.assertTrue(footage.VALIDATION_START <= int(frame) < footage.TRAIN_END, frame)
            for x1, y1, x2, y2 in row:
                self.assertTrue(0 <= x1 < x2 <= footage.WIDTH and 0 <= y1 < y2 <= footage.HEIGHT, (frame, x1))


class SynthesisTest(unittest.TestCase):
    def cutout(self, shade):
        alpha = np.zeros((44, 24), np.float32)
        alpha[2:42, 4:20] = 1
        return synthesize.Cutout(np.full((44, 24, 3), shade, np.uint8), alpha, [0, 0, 16, 40])

    def test_whoever_stands_nearer_hides_the_other(self):
        empty = np.zeros((footage.HEIGHT, footage.WIDTH, 3), np.uint8)
        scene = synthesize.Scene(empty, [], np.zeros(empty.shape[:2], np.uint8))
        rng = np.random.default_rng(1)
        scene.paste(self.cutout(200), 300, 320, 40, rng)
        scene.paste(self.cutout(100), 300, 310, 40, rng)  # pasted later, but farther away
        (front, _), (back, _) = scene.people
        np.testing.assert_allclose(front, [292, 280, 308, 320], atol=1)
        np.testing.assert_allclose(back, [292, 270, 308, 310], atol=1)
        self.assertEqual(scene.owner[300, 300], 0)
        self.assertEqual(scene.owner[273, 300], 1)

    def test_somebody_fully_hidden_is_ignored_not_labelled(self):
        empty = np.zeros((footage.HEIGHT, footage.WIDTH, 3), np.uint8)
        scene = synthesize.Scene(empty, [], np.zeros(empty.shape[:2], np.uint8))
        rng = np.random.default_rng(1)
        scene.paste(self.cutout(200), 300, 320, 40, rng)
        scene.paste(self.cutout(100), 300, 319, 40, rng)
        shown, ignored = scene.labels()
        self.assertEqual((len(shown), len(ignored)), (1, 1))

    def test_boxes_follow_the_zoom(self):
        picture = np.zeros((footage.HEIGHT, footage.WIDTH, 3), np.uint8)
        for seed in range(8):
            rng = np.random.default_rng(seed)
            picture[:] = 0
            picture[200:300, 300:340] = 255
            small, moves = synthesize.zoom(picture, rng)
            box = moves(np.array([300, 200, 340, 300], np.float32))
            if box is None:
                continue
            ys, xs = np.nonzero(small[:, :, 0] > 127)
            np.testing.assert_allclose(box, [xs.min(), ys.min(), xs.max() + 1, ys.max() + 1], atol=1.1)


class NetTest(unittest.TestCase):
    def test_targets_decode_to_the_box(self):
        box = np.array([100, 50, 112, 82], np.float32)
        owner, closeness, weight = net.targets([box], [[0, 0, 60, 60]])
        row, column = divmod(int(closeness.argmax()), closeness.shape[1])
        self.assertEqual((column, row), (26, 16))
        self.assertEqual(owner[row, column].tolist(), box.tolist())
        self.assertEqual(float(weight[5, 5]), 0.0)
        self.assertEqual(float(weight[30, 60]), 1.0)

    def test_decode(self):
        maps = torch.zeros(1, 5, 2, 2)
        boxes = net.decode(maps, net.cell_centres(2, 2))[0, :, 1, 0]
        want = [2 - net.BASE_WIDTH / 2, 6 - net.BASE_HEIGHT / 2, 2 + net.BASE_WIDTH / 2, 6 + net.BASE_HEIGHT / 2]
        self.assertEqual(boxes.tolist(), want)

    def test_deployed_shape_and_score_range(self):
        torch.manual_seed(0)
        deployed = net.Deployed(net.Detector().eval())
        with torch.no_grad():
            rows = deployed(golden.golden_input())
        self.assertEqual(tuple(rows.shape), (1, 4800, 5))
        self.assertTrue(bool(((rows[..., 4] >= 0) & (rows[..., 4] <= 1)).all()))

    def test_giou(self):
        a = torch.tensor([[0.0, 0, 10, 10]])
        iou, overlap = net.giou(a, torch.tensor([[20.0, 0, 30, 10]]))
        self.assertEqual(float(iou), 0.0)
        self.assertAlmostEqual(float(overlap), -1 / 3, places=5)


if __name__ == "__main__":
    unittest.main()
