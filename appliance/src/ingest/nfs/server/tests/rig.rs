//! A server, the program behind it, which does as it is told, and clients that keep to nothing.

use super::*;

/// What the program is told to do: the second word of a call. The first is its number, the third an argument.
pub(super) const ECHO: u32 = 0;
/// Wait until the test lets one waiting call go.
pub(super) const WAIT: u32 = 1;
/// Answer with as many bytes as the argument says.
pub(super) const BULK: u32 = 2;
pub(super) const PANIC: u32 = 3;
pub(super) const CLOSE: u32 = 4;
pub(super) const SILENCE: u32 = 5;
/// Owe the reply; where it is the first that is settled, wait until the test lets it go.
pub(super) const OWE: u32 = 6;
/// Owe a reply and panic when it is settled.
pub(super) const OWE_PANIC: u32 = 7;
/// Owe a reply whose memory panics when it is given back: after it was sent, outside of settling.
pub(super) const OWE_TRAP: u32 = 9;
/// Wait like WAIT, as a call that was taken for brief.
pub(super) const WAIT_BRIEF: u32 = 8;
/// Wait like WAIT, and once more before that, while the server asks whether it may.
pub(super) const LINGER: u32 = 10;

pub(super) struct Obedient {
    entered: Mutex<Sender<u32>>,
    released: Mutex<Receiver<()>>,
    settled: AtomicUsize,
}

impl Obedient {
    /// Tells the test that a call is here, and waits until it lets one go.
    pub(super) fn wait(&self, number: u32) {
        self.entered.lock().unwrap().send(number).unwrap();
        self.released.lock().unwrap().recv().unwrap();
    }
}

/// Memory that panics when it is given back.
pub(super) struct Trap(Bytes);

impl AsRef<[u8]> for Trap {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Trap {
    fn drop(&mut self) {
        panic!("told to");
    }
}

impl Service for Obedient {
    fn call(self: Arc<Self>, record: Bytes, _: &Peer, _: Timestamp) -> Outcome {
        let word =
            |at: usize| record.get(4 * at..4 * at + 4).map_or(0, |bytes| u32::from_be_bytes(bytes.try_into().unwrap()));
        let mut out = Encoder::new();
        out.u32(word(0));
        match word(1) {
            WAIT | WAIT_BRIEF | LINGER => self.wait(word(0)),
            OWE | OWE_PANIC => {
                let (number, panics) = (word(0), word(1) == OWE_PANIC);
                return Outcome::Owed(Owed::new(move || {
                    assert!(!panics, "told to");
                    if self.settled.fetch_add(1, SeqCst) == 0 {
                        self.wait(number);
                    }
                    out.finish_record()
                }));
            }
            OWE_TRAP => {
                let (number, trap) = (word(0), Trap(record));
                return Outcome::Owed(Owed::new(move || {
                    self.wait(number);
                    Message::whole(Bytes::from_owner(trap))
                }));
            }
            BULK => out.bulk(vec![Bytes::from(vec![word(0) as u8; word(2) as usize])]),
            PANIC => panic!("told to"),
            CLOSE => return Outcome::Close,
            SILENCE => return Outcome::Silence,
            _ => out.fixed(&record[record.len().min(8)..]),
        }
        Outcome::Reply(out.finish_record())
    }

    fn is_brief(&self, record: &Bytes) -> bool {
        !matches!(record.get(4..8), Some([0, 0, 0, 1]))
    }

    fn may_wait(&self, record: &Bytes) -> bool {
        if let Some([number @ .., 0, 0, 0, 10]) = record.first_chunk::<8>() {
            self.wait(u32::from_be_bytes(*number));
        }
        !matches!(record.get(4..8), Some([0, 0, 0, 0]))
    }

    fn knows(&self, peer: &Peer) -> bool {
        !peer.client.ip().to_string().starts_with("127.9.")
    }

    fn reply_bytes(&self, record: &Bytes) -> usize {
        match record.get(4..12) {
            Some([0, 0, 0, 2, len @ ..]) => u32::from_be_bytes(len.try_into().unwrap()) as usize,
            _ => 0,
        }
    }
}

/// A server with its program's strings.
pub(super) struct Rig {
    pub(super) server: Server,
    pub(super) address: SocketAddr,
    pub(super) entered: Receiver<u32>,
    pub(super) release: Sender<()>,
}

impl Rig {
    pub(super) fn new(adjust: impl FnOnce(&mut ServerConfig)) -> Rig {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let ((entered_in, entered), (release, released)) = (channel(), channel());
        let service =
            Obedient { entered: Mutex::new(entered_in), released: Mutex::new(released), settled: AtomicUsize::new(0) };
        let mut config = ServerConfig::new(Arc::new(|| Timestamp(0)));
        adjust(&mut config);
        let server = Server::start(config, vec![(listener, Arc::new(service))], Vec::new()).unwrap();
        Rig { server, address, entered, release }
    }
    pub(super) fn connect(&self) -> Wire {
        self.connect_from([127, 0, 0, 1])
    }
    /// Connects from another host, as the server sees it.
    pub(super) fn connect_from(&self, host: [u8; 4]) -> Wire {
        let socket = net::socket(net::AddressFamily::INET, net::SocketType::STREAM, None).unwrap();
        net::bind(&socket, &SocketAddr::from((host, 0))).unwrap();
        net::connect(&socket, &self.address).unwrap();
        let socket = TcpStream::from(socket);
        socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        Wire(socket)
    }
    /// Waits until something is so; the test fails where it does not become so.
    pub(super) fn until(&self, what: &str, mut so: impl FnMut(ServerStatus) -> bool) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while !so(self.server.status()) {
            assert!(Instant::now() < deadline, "{what}: {:?}", self.server.status());
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

/// A client that does not keep to anything.
pub(super) struct Wire(pub(super) TcpStream);

pub(super) fn record(words: &[u32], rest: &[u8]) -> Vec<u8> {
    let marker = (4 * words.len() + rest.len()) as u32 | LAST_FRAGMENT;
    let head = [marker].into_iter().chain(words.iter().copied()).flat_map(u32::to_be_bytes);
    head.chain(rest.iter().copied()).collect()
}

impl Wire {
    pub(super) fn send(&mut self, words: &[u32], rest: &[u8]) {
        self.0.write_all(&record(words, rest)).unwrap();
    }
    /// The next reply; `None` where the server closed the connection.
    pub(super) fn receive(&mut self) -> Option<Vec<u8>> {
        let mut marker = [0; 4];
        self.0.read_exact(&mut marker).ok()?;
        let mut body = vec![0; (u32::from_be_bytes(marker) & !LAST_FRAGMENT) as usize];
        self.0.read_exact(&mut body).ok()?;
        Some(body)
    }
    /// The number of the call that the next reply answers.
    pub(super) fn answered(&mut self) -> u32 {
        u32::from_be_bytes(self.receive().expect("a reply")[..4].try_into().unwrap())
    }
    pub(super) fn works(&mut self) {
        self.send(&[77, ECHO], b"hello");
        assert_eq!(self.receive().unwrap(), [&77u32.to_be_bytes()[..], b"hello\0\0\0"].concat());
    }
}
