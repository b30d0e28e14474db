"""Distributed training: devices, replicas, workers and their rendezvous."""
