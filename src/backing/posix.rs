//! The real backing: an export mounted on this node, through `sys`.
