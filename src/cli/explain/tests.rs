use super::decide::decide;
use super::*;
