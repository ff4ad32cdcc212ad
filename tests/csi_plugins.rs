//! What a plugin does beside answering calls: it stands beside others, makes room for the next one, and tells Prometheus of its node. Needs root and
//! /dev/fuse, and fails without.
#![allow(clippy::unwrap_used, missing_docs)]

mod csi_room;

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use csi_room::{Calls, Node, done_as_pod};
use nix::sys::signal::{Signal, kill};
use tonic::Code;

/// An address that nobody has: each of the node's own is asked for a free port once, so that no other test is given the same.
fn free_address() -> SocketAddr {
    static NEXT: AtomicU8 = AtomicU8::new(2);
    let own = Ipv4Addr::new(127, 0, 0, NEXT.fetch_add(1, Ordering::Relaxed));
    TcpListener::bind((own, 0)).unwrap().local_addr().unwrap()
}

fn asked(address: SocketAddr, request: &str) -> String {
    let mut connection = TcpStream::connect(address).unwrap();
    connection.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    connection.read_to_string(&mut answer).unwrap();
    answer
}

fn metrics(address: SocketAddr) -> String {
    asked(address, "GET /metrics HTTP/1.1\r\nHost: node\r\n\r\n")
}

#[test]
fn two_plugins_on_one_host_do_everything_once() {
    let node = Node::new();
    let second = node.second_plugin(&[]);
    let volume = node.calls.create(node.creation("pvc-1")).unwrap();
    assert_eq!(second.calls.create(node.creation("pvc-1")).unwrap(), volume);
    for round in 0..5 {
        std::thread::scope(|scope| {
            for pod in 0..6 {
                for calls in [&node.calls, &second.calls] {
                    let target = node.target(&pod.to_string());
                    let request = node.request("vol", &target);
                    scope.spawn(move || match calls.publish_once(request) {
                        Ok(_) => {}
                        Err(refused) => assert_eq!(refused.code(), Code::Aborted, "{refused:?}"),
                    });
                }
            }
        });
        assert_eq!(node.status().len(), 6, "round {round}");
        for pod in 0..6 {
            let target = node.target(&pod.to_string());
            // By whoever did not publish it, or did.
            second.calls.unpublish("vol", &target).unwrap();
            node.calls.unpublish("vol", &target).unwrap();
        }
        assert!(node.mounts().is_empty() && node.ledger() == 0, "round {round}: {:?}", node.mounts());
    }
    second.calls.delete(&volume.volume_id).unwrap();
    node.calls.delete(&volume.volume_id).unwrap();
}

#[test]
fn prometheus_is_told_of_every_volume_and_of_a_process_that_does_not_answer() {
    let mut node = Node::new();
    let address = free_address();
    let _second = node.second_plugin(&["--metrics", &address.to_string()]);
    let (good, stuck) = (node.target("good"), node.target("stuck"));
    for (volume, target) in [("good", &good), ("stuck", &stuck)] {
        node.calls.publish(node.request(volume, target)).unwrap();
    }
    done_as_pod(50000, 0, "", &format!("echo hi > {}/file", good.display()));
    let told = metrics(address);
    assert!(told.starts_with("HTTP/1.1 200 OK\r\n"), "{told}");
    let serving = |volume: &str, answers: u32| {
        let target = node.target(volume);
        format!("permfs_volume_serving{{volume_id=\"{volume}\",target=\"{}\"}} {answers}\n", target.display())
    };
    for line in [&serving("good", 1), &serving("stuck", 1), "permfs_volumes 2\n", "permfs_rules_valid 1\n"] {
        assert!(told.contains(line), "{line} is not in {told}");
    }
    assert!(told.contains("operation=\"create\"} 1\n"), "{told}");

    let process = node.daemon(&stuck);
    csi_room::stop(process);
    let begin = Instant::now();
    let told = metrics(address);
    kill(process, Signal::SIGCONT).unwrap();
    assert!(begin.elapsed() < Duration::from_secs(8), "{:?}", begin.elapsed());
    assert!(told.contains(&serving("stuck", 0)) && told.contains(&serving("good", 1)), "{told}");

    node.write_rules("version = 2\n");
    assert!(metrics(address).contains("\npermfs_rules_valid 0\n"));
    Node::end(&mut node.host, Signal::SIGKILL);
    assert!(metrics(address).contains("\npermfs_host_up 0\n"));
}

#[test]
fn whoever_asks_for_something_else_than_metrics_is_told_what_there_is() {
    let node = Node::new();
    let address = free_address();
    let second = node.second_plugin(&["--metrics", &address.to_string()]);
    assert!(asked(address, "GET / HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 404 "));
    assert!(asked(address, "POST /metrics HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 405 "));
    let head = asked(address, "HEAD /metrics HTTP/1.1\r\n\r\n");
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n") && head.ends_with("\r\n\r\n"), "{head}");
    // Who sends without an end, who says nothing at all, and who leaves: none keeps others from being answered.
    let endless = "x".repeat(64 << 10);
    let mut connection = TcpStream::connect(address).unwrap();
    let _ = connection.write_all(endless.as_bytes());
    let silent: Vec<_> = (0..8).map(|_| TcpStream::connect(address).unwrap()).collect();
    assert!(metrics(address).starts_with("HTTP/1.1 200 OK\r\n"));
    drop(silent);
    assert!(second.calls.ready().unwrap());
}

#[test]
fn a_client_whose_header_never_ends_is_hung_up_on_though_it_keeps_sending() {
    let node = Node::new();
    let address = free_address();
    let _second = node.second_plugin(&["--metrics", &address.to_string()]);
    let mut connection = TcpStream::connect(address).unwrap();
    connection.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    connection.write_all(b"GET /metrics HTTP/1.1\r\n").unwrap();
    let begin = Instant::now();
    // Read until it is at its end, or reset by what came after that.
    while !matches!(connection.read(&mut [0; 512]), Ok(0)) {
        if connection.write_all(b"x: y\r\n").is_err() {
            break;
        }
        assert!(begin.elapsed() < Duration::from_secs(30), "still listened to");
    }
}

/// As two pods of the plugin overlap where one is deleted by force: the old one had taken the new one's socket with it.
#[test]
fn a_plugin_that_ends_leaves_its_successor_the_socket() {
    let mut node = Node::new();
    // Somebody is connected and says nothing, so that it takes its time to end.
    let _silent = UnixStream::connect(node.socket()).unwrap();
    let ended = node.succeed_plugin();
    assert!(ended.success());
    assert!(Calls::new(node.socket()).ready().unwrap(), "who connects anew finds the successor");
}
