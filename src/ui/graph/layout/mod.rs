//! Layered drawing of a directed graph, after Sugiyama, Tagawa and Toda (1981).
//!
//! ```text
//! layers (longest path) → long edges cut into dummy vertices → order within layers (barycentres)
//!   → chains aligned, longest first → places from left to right → heights
//! ```
//! Edges leave their node at the bottom and enter the next at the top. They bend only between two
//! layers, so they cross no node. Edges of one bundle share their way as long as they can.

mod coordinates;
mod layering;
mod ordering;
mod routes;

use egui::{Pos2, Vec2};

/// Where a vertex has to be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Pin {
    /// Wherever its edges put it.
    #[default]
    Free,
    /// In a layer above all others: an entrance.
    First,
    /// In a layer below all others: an exit.
    Last,
}

/// A node to be placed.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct LayoutNode {
    /// Width and height.
    pub(super) size: Vec2,
    pub(super) pin: Pin,
}

/// An edge to be drawn.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct LayoutEdge {
    /// Index of the node that it leaves.
    pub(super) from: usize,
    /// Where it leaves, right of the node's centre.
    pub(super) from_x: f32,
    /// Index of the node that it enters.
    pub(super) to: usize,
    /// Where it enters, right of the node's centre.
    pub(super) to_x: f32,
    /// Edges of one bundle leave the same node at the same place.
    pub(super) bundle: u32,
}

/// The end of a piece that has an arrow head.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Arrow {
    #[default]
    None,
    /// Where the piece ends.
    End,
    /// Where it begins: the edge runs upwards.
    Start,
}

/// A part of edges: a vertical line, or a curve with vertical tangents at both ends.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Piece {
    /// The upper end.
    pub(super) from: Pos2,
    /// The lower end.
    pub(super) to: Pos2,
    /// The piece above, on the way from the edge's node.
    pub(super) before: Option<u32>,
    pub(super) arrow: Arrow,
}

/// A finished drawing; its upper left corner is the origin.
#[derive(Clone, Debug, Default)]
pub(super) struct Layout {
    /// Centres of the nodes.
    pub(super) centers: Vec<Pos2>,
    /// Parts of the edges.
    pub(super) pieces: Vec<Piece>,
    /// The last piece of each edge; the others follow by [`Piece::before`].
    pub(super) last_pieces: Vec<Option<u32>>,
    /// Width and height of it all.
    pub(super) size: Vec2,
}

/// Lays out a graph; edges to unknown nodes, from a node to itself, into an entrance and out of an exit
/// are left out.
///
/// Cycles are allowed: one edge of each runs upwards.
pub(super) fn layout(nodes: &[LayoutNode], edges: &[LayoutEdge]) -> Layout {
    let mut layers = layering::Layered::new(nodes, edges);
    ordering::reduce_crossings(&mut layers);
    let xs = coordinates::xs(&layers);
    routes::finish(nodes, edges, &layers, &xs)
}

#[cfg(test)]
mod tests;
