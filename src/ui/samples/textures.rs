//! Pictures on the graphics card: uploaded once, dropped when they are far away.

use std::collections::BTreeMap;

use egui::{ColorImage, TextureFilter, TextureHandle, TextureOptions};

use crate::data::Thumbnail;

/// Pictures that are uploaded in one frame at most, so that scrolling stays smooth.
const UPLOADS_PER_FRAME: usize = 24;

/// Textures by sample.
#[derive(Default)]
pub(super) struct Textures {
    held: BTreeMap<usize, (TextureHandle, u64)>,
    /// Counts frames.
    frame: u64,
    uploads: usize,
}

impl std::fmt::Debug for Textures {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Textures").field(&self.held.len()).finish()
    }
}

impl Textures {
    /// Begins a frame.
    pub(super) fn begin(&mut self) {
        self.frame += 1;
        self.uploads = 0;
    }

    /// The texture of a sample, uploaded from its picture when it is not there yet.
    pub(super) fn of<'a>(
        &mut self,
        ctx: &egui::Context,
        sample: usize,
        picture: impl FnOnce() -> Option<&'a Thumbnail>,
    ) -> Option<TextureHandle> {
        if let Some((texture, seen)) = self.held.get_mut(&sample) {
            *seen = self.frame;
            return Some(texture.clone());
        }
        let picture = picture()?;
        if self.uploads >= UPLOADS_PER_FRAME {
            ctx.request_repaint();
            return None;
        }
        self.uploads += 1;
        let size = [picture.width as usize, picture.height as usize];
        let image = ColorImage::from_rgba_unmultiplied(size, &picture.rgba);
        // Single pixels stay visible: they are what the network sees.
        let options = TextureOptions {
            magnification: TextureFilter::Nearest,
            ..TextureOptions::LINEAR
        };
        let texture = ctx.load_texture(format!("sample {sample}"), image, options);
        self.held.insert(sample, (texture.clone(), self.frame));
        Some(texture)
    }

    pub(super) fn has(&self, sample: usize) -> bool {
        self.held.contains_key(&sample)
    }

    /// Drops the textures that were not seen for longest, down to `count`.
    pub(super) fn keep(&mut self, count: usize) {
        if self.held.len() <= count {
            return;
        }
        let mut seen: Vec<u64> = self.held.values().map(|(_, seen)| *seen).collect();
        seen.sort_unstable_by(|a, b| b.cmp(a));
        let oldest = seen.get(count).copied().unwrap_or(0);
        let now = self.frame;
        self.held
            .retain(|_, (_, seen)| *seen > oldest || *seen == now);
    }

    pub(super) fn clear(&mut self) {
        self.held.clear();
    }
}
