use egui::{Rect, vec2};

use super::*;

/// Nodes of one size with edges between them.
struct Drawing {
    nodes: Vec<LayoutNode>,
    edges: Vec<LayoutEdge>,
    layout: Layout,
}

fn draw(count: usize, edges: &[(usize, usize)]) -> Drawing {
    let nodes = vec![
        LayoutNode {
            size: vec2(100.0, 30.0),
            pin: Pin::Free,
        };
        count
    ];
    let edges: Vec<LayoutEdge> = edges
        .iter()
        .map(|(from, to)| LayoutEdge {
            from: *from,
            to: *to,
            bundle: *from as u32,
            ..LayoutEdge::default()
        })
        .collect();
    let layout = layout(&nodes, &edges);
    Drawing {
        nodes,
        edges,
        layout,
    }
}

impl Drawing {
    fn rect(&self, node: usize) -> Rect {
        Rect::from_center_size(self.layout.centers[node], self.nodes[node].size)
    }

    /// The pieces of an edge from its beginning to its end.
    fn way(&self, edge: usize) -> Vec<Piece> {
        let mut way = Vec::new();
        let mut next = self.layout.last_pieces[edge];
        while let Some(piece) = next {
            way.push(self.layout.pieces[piece as usize]);
            next = self.layout.pieces[piece as usize].before;
        }
        way.reverse();
        way
    }

    /// What every drawing of a graph without cycles must be.
    #[track_caller]
    fn check(&self) {
        let all = Rect::from_min_size(Pos2::ZERO, self.layout.size).expand(0.5);
        for node in 0..self.nodes.len() {
            assert!(all.contains_rect(self.rect(node)), "node {node} is outside");
        }
        let mut by_height: Vec<usize> = (0..self.nodes.len()).collect();
        by_height.sort_by(|a, b| self.rect(*a).top().total_cmp(&self.rect(*b).top()));
        for (place, node) in by_height.iter().enumerate() {
            for other in by_height[place + 1..]
                .iter()
                .take_while(|other| self.rect(**other).top() < self.rect(*node).bottom())
            {
                assert!(
                    !self.rect(*node).shrink(0.5).intersects(self.rect(*other)),
                    "{node} and {other} overlap"
                );
            }
        }
        for (index, edge) in self.edges.iter().enumerate() {
            self.check_way(index, *edge);
        }
    }

    #[track_caller]
    fn check_way(&self, index: usize, edge: LayoutEdge) {
        let way = self.way(index);
        let (first, last) = (way[0], way[way.len() - 1]);
        let near = |a: Pos2, b: Pos2| (a - b).length() < 0.5;
        assert!(
            near(first.from, self.rect(edge.from).center_bottom()),
            "{edge:?}"
        );
        assert!(near(last.to, self.rect(edge.to).center_top()), "{edge:?}");
        for piece in &way {
            assert!(piece.from.y <= piece.to.y, "{edge:?} runs upwards");
        }
        for pair in way.windows(2) {
            assert!(near(pair[0].to, pair[1].from), "{edge:?} has a gap");
        }
    }

    /// No piece goes through a node; a curve stays in the box of its ends.
    #[track_caller]
    fn check_nothing_is_crossed(&self) {
        for piece in &self.layout.pieces {
            let space = Rect::from_two_pos(piece.from, piece.to);
            for node in 0..self.nodes.len() {
                let node = self.rect(node).shrink(1.0);
                assert!(!node.intersects(space), "{piece:?} goes through {node:?}");
            }
        }
    }
}

#[test]
fn a_chain_is_a_straight_line() {
    let drawing = draw(5, &[(0, 1), (1, 2), (2, 3), (3, 4)]);
    drawing.check();
    for center in &drawing.layout.centers {
        assert_eq!(center.x, 50.0);
    }
    assert_eq!(drawing.layout.pieces.len(), 4);
}

#[test]
fn a_diamond_has_its_branches_side_by_side() {
    let drawing = draw(4, &[(0, 1), (0, 2), (1, 3), (2, 3)]);
    drawing.check();
    drawing.check_nothing_is_crossed();
    assert_eq!(drawing.rect(1).top(), drawing.rect(2).top());
    assert!(drawing.rect(1).right() < drawing.rect(2).left());
}

#[test]
fn the_trunk_stays_straight_beside_skip_connections() {
    // Three residual blocks: two nodes and an addition each.
    let mut edges = Vec::new();
    for block in 0..3 {
        let first = 3 * block;
        edges.extend([
            (first, first + 1),
            (first + 1, first + 2),
            (first + 2, first + 3),
            (first, first + 3),
        ]);
    }
    let drawing = draw(10, &edges);
    drawing.check();
    drawing.check_nothing_is_crossed();
    let x = drawing.layout.centers[0].x;
    for center in &drawing.layout.centers {
        assert_eq!(center.x, x);
    }
}

#[test]
fn a_long_skip_keeps_clear_of_all_that_it_passes() {
    let mut edges: Vec<(usize, usize)> = (0..20).map(|node| (node, node + 1)).collect();
    edges.extend([(0, 20), (3, 17), (5, 12)]);
    let drawing = draw(21, &edges);
    drawing.check();
    drawing.check_nothing_is_crossed();
}

#[test]
fn edges_of_one_bundle_share_their_way() {
    let mut edges: Vec<(usize, usize)> = (0..40).map(|node| (node, node + 1)).collect();
    edges.extend((2..40).map(|node| (0, node)));
    let drawing = draw(41, &edges);
    drawing.check();
    drawing.check_nothing_is_crossed();
    // One line down beside the chain, and a tap for each reader.
    assert!(
        drawing.layout.pieces.len() < 4 * 41,
        "{}",
        drawing.layout.pieces.len()
    );
}

#[test]
fn a_cycle_has_one_edge_that_runs_upwards() {
    let drawing = draw(3, &[(0, 1), (1, 2), (2, 0)]);
    let upwards: Vec<bool> = (0..3)
        .map(|edge| drawing.way(edge)[0].arrow == Arrow::Start)
        .collect();
    assert_eq!(upwards, [false, false, true]);
}

#[test]
fn entrances_are_above_and_exits_below() {
    let node = |pin| LayoutNode {
        size: vec2(4.0, 10.0),
        pin,
    };
    let nodes = [Pin::Free, Pin::Last, Pin::First, Pin::Free].map(node);
    let edge = |from, to| LayoutEdge {
        from,
        to,
        bundle: from as u32,
        ..LayoutEdge::default()
    };
    let layout = layout(&nodes, &[edge(2, 0), edge(0, 1), edge(0, 3)]);
    let y = |node: usize| layout.centers[node].y;
    assert!(
        y(2) < y(0) && y(0) < y(3) && y(3) < y(1),
        "{:?}",
        layout.centers
    );
    // The way of an edge reaches through the entrance and the exit.
    assert_eq!(
        layout.pieces[layout.last_pieces[1].unwrap() as usize].to.y,
        y(1) + 5.0
    );
}

#[test]
fn a_thousand_random_nodes_do_not_overlap() {
    let mut random = 7u64;
    let mut uniform = |below: usize| {
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (random >> 33) as usize % below
    };
    let mut edges = Vec::new();
    for node in 1..1000 {
        edges.push((node - 1 - uniform(node.min(5)), node));
        if uniform(3) == 0 {
            edges.push((node - 1 - uniform(node.min(40)), node));
        }
    }
    edges.sort_unstable();
    edges.dedup();
    let drawing = draw(1000, &edges);
    drawing.check();
    drawing.check_nothing_is_crossed();
}

#[test]
fn nothing_is_a_drawing_too() {
    assert_eq!(draw(0, &[]).layout.size, Vec2::ZERO);
}
