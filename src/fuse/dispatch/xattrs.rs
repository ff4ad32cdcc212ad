//! Extended attributes: a question with room for no answer asks how long it is.

use std::ffi::CStr;

use super::Server;
use crate::fs::{BackingFs, CallerId, Errno, NodeId};
use crate::fuse::encode;
use crate::fuse::reply::Reply;
use crate::fuse::wire::GetxattrOut;

impl<B: BackingFs> Server<B> {
    pub(super) fn getxattr(
        &self,
        reply: Reply<'_>,
        caller: CallerId,
        node: NodeId,
        name: &CStr,
        buffer: &mut [u8],
    ) {
        let length = self.fs.getxattr(caller, node, name, buffer);
        value_or_length(reply, length, buffer);
    }

    pub(super) fn listxattr(&self, reply: Reply<'_>, caller: CallerId, node: NodeId, buffer: &mut [u8]) {
        let length = self.fs.listxattr(caller, node, buffer);
        value_or_length(reply, length, buffer);
    }
}

fn value_or_length(reply: Reply<'_>, length: Result<usize, Errno>, buffer: &[u8]) {
    match length {
        Err(error) => reply.error(error),
        Ok(length) if buffer.is_empty() => {
            reply.value(Ok(GetxattrOut { size: encode::saturate(length), padding: 0 }));
        }
        Ok(length) => match buffer.get(..length) {
            Some(value) => _ = reply.bytes(value),
            None => reply.error(Errno::ERANGE),
        },
    }
}
